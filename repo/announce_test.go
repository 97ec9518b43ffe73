package repo_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

func kinds(t *testing.T, s repo.Store) string {
	t.Helper()
	var all []string
	last := int64(0)
	for e, err := range s.Read(t.Context()).Events(0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Seq <= last {
			t.Errorf("event %d after %d", e.Seq, last)
		}
		last = e.Seq
		for _, k := range []string{"#commit", "#identity"} {
			if bytes.Contains(e.Body[:20], []byte(k)) {
				all = append(all, k)
			}
		}
	}
	return strings.Join(all, " ")
}

// TestResign: after a rotation of the key, an identity event and then a commit by the new key, or neither.
func TestResign(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	g := &gated{Store: memstore.New()}
	r := repotest.Open(t, g, repo.Options{})
	if _, err := r.Apply(ctx, []repo.Write{write(t, repo.Put, "k", "x")}); err != nil {
		t.Fatal(err)
	}
	before, err := r.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if signed, err := r.Signed(ctx); err != nil || !signed {
		t.Fatal(signed, err)
	}
	did := r.DID()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	key, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	if r, err = repo.Open(ctx, g, repo.Options{DID: did, Key: key}); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if signed, err := r.Signed(ctx); err != nil || signed {
		t.Fatal(signed, err)
	}
	g.fail.Store(true)
	if _, err := r.Resign(ctx, "h.test"); !errors.Is(err, errCommit) || g.failed.Load() != 1 {
		t.Fatal(err)
	}
	g.fail.Store(false)
	if k := kinds(t, g); k != "#commit #commit" {
		t.Errorf("after a transaction that failed: %s", k)
	}
	c, err := r.Resign(ctx, "h.test")
	if err != nil || c.Data != before.Data || c.Prev != before.Data || c.Since != before.Rev {
		t.Fatalf("%+v, %v", c, err)
	}
	if signed, err := r.Signed(ctx); err != nil || !signed {
		t.Fatal(signed, err)
	}
	if err := r.Announce(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Apply(ctx, []repo.Write{write(t, repo.Put, "l", "x")}); err != nil {
		t.Fatal(err)
	}
	if k := kinds(t, g); k != "#commit #commit #identity #commit #identity #commit" {
		t.Error(k)
	}
}

// TestIdentityFrame: the fields of com.atproto.sync.subscribeRepos#identity, in the order of canonical CBOR.
func TestIdentityFrame(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	r := repotest.Open(t, s, repo.Options{})
	if err := r.Announce(t.Context(), "h.test"); err != nil {
		t.Fatal(err)
	}
	for e, err := range s.Read(t.Context()).Events(0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(e.Body[:20], []byte("#identity")) {
			continue
		}
		want := []string{"did", r.DID(), "seq", "time", "handle", "h.test"}
		at := 0
		for _, w := range want {
			i := bytes.Index(e.Body[at:], []byte(w))
			if i < 0 {
				t.Fatalf("%q: no %s from %d on", e.Body, w, at)
			}
			at += i
		}
	}
}
