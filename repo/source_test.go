package repo_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// TestSourceMustBeComplete: what is missing is an error that names it, and without a key nothing is verified by default.
func TestSourceMustBeComplete(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := repotest.Open(t, memstore.New(), repo.Options{DID: carDID})
	fill(t, r, 0, 3, 1)
	car := export(t, r)
	src := func() repo.Source { return repo.Source{Reader: bytes.NewReader(car)} }
	for _, test := range []struct {
		src  repo.Source
		want string
	}{
		{repo.Source{}, "Source.Reader is missing"},
		{repo.Source{AnyKey: true}, "Source.Reader is missing"},
		{src(), "Source.Key is missing"},
	} {
		_, verified := repo.VerifyCAR(ctx, test.src)
		_, opened := repo.OpenCAR(ctx, test.src)
		_, mirrored := repo.MirrorCAR(ctx, memstore.New(), test.src, nil)
		for name, err := range map[string]error{"VerifyCAR": verified, "OpenCAR": opened, "MirrorCAR": mirrored} {
			if !errors.Is(err, repo.ErrInvalidOptions) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: error %v, want %q", name, err, test.want)
			}
		}
	}
	if _, err := repo.ImportCAR(ctx, r, repo.Source{}); !errors.Is(err, repo.ErrInvalidOptions) {
		t.Errorf("ImportCAR of nothing: %v", err)
	}
}

// TestCARInfoSaysWhatWasChecked: the DID and the signature, each by what was given; an importer that knows the key itself says so, too.
func TestCARInfoSaysWhatWasChecked(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := repotest.Open(t, memstore.New(), repo.Options{DID: carDID})
	fill(t, r, 0, 3, 1)
	car := export(t, r)
	for _, test := range []struct {
		src         repo.Source
		did, signed bool
	}{
		{repo.Source{AnyKey: true}, false, false},
		{repo.Source{AnyKey: true, DID: carDID}, true, false},
		{repo.Source{Key: r.PublicKey()}, false, true},
		{repo.Source{Key: r.PublicKey(), DID: carDID, AnyKey: true}, true, true},
	} {
		test.src.Reader = bytes.NewReader(car)
		info, err := repo.VerifyCAR(ctx, test.src)
		if err != nil || info.DIDChecked != test.did || info.SignatureChecked != test.signed {
			t.Errorf("DID %v, signature %v, %v; want %v, %v", info.DIDChecked, info.SignatureChecked, err, test.did, test.signed)
		}
	}
	// AnyKey is no reason to let a wrong key pass.
	wrong := repo.Source{Reader: bytes.NewReader(car), Key: public(t, newKey(t)), AnyKey: true}
	if _, err := repo.VerifyCAR(ctx, wrong); !errors.Is(err, repo.ErrInvalidCAR) {
		t.Errorf("another key: %v", err)
	}

	opened, err := repo.OpenCAR(ctx, repo.Source{Reader: bytes.NewReader(car), AnyKey: true})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if err := opened.VerifySignature(public(t, newKey(t))); err == nil || opened.Info.SignatureChecked {
		t.Errorf("another key: %v, checked %v", err, opened.Info.SignatureChecked)
	}
	if err := opened.VerifySignature(r.PublicKey()); err != nil || !opened.Info.SignatureChecked {
		t.Errorf("the key: %v, checked %v", err, opened.Info.SignatureChecked)
	}

	own, err := repo.ImportCAR(ctx, r, repo.Source{Reader: bytes.NewReader(car)})
	if err != nil || !own.Sources[0].SignatureChecked {
		t.Errorf("an import of its own CAR: %+v, %v", own.Sources, err)
	}
	other := repotest.Open(t, memstore.New(), repo.Options{DID: "did:web:b.example"})
	anyone, err := repo.ImportCAR(ctx, other, repo.Source{Reader: bytes.NewReader(car), AnyKey: true})
	if err != nil || anyone.Sources[0].SignatureChecked || anyone.Created != 3 {
		t.Errorf("an import of anybody's CAR: %+v, %v", anyone, err)
	}
}
