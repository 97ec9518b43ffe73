package repo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	indigo "github.com/bluesky-social/indigo/atproto/repo"
	gocar "github.com/ipld/go-car/v2"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/tools"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// TestGoCAR: the IPLD project's own inspection, with every block hashed again, finds in our exports what we put there; one
// that is damaged it refuses. What it wraps as a CARv2 we refuse, and say what it is.
func TestGoCAR(t *testing.T) {
	t.Parallel()
	n := 5000
	if os.Getenv("ATCR_LONG") != "" {
		n = 100_000
	}
	r := repotest.Open(t, memstore.New(), repo.Options{DID: testDID})
	const blobs = 20
	var ws []repo.Write
	for i := range n {
		w := write(t, repo.Put, fmt.Sprintf("k%06d", i), fmt.Sprint(i))
		if i < blobs {
			data := fmt.Append(nil, "blob ", i)
			c := repo.BlobCID(data)
			w.Blobs = []repo.Blob{{MediaType: "text/plain", Data: data}}
			var err error
			if w.Record, err = repo.RecordFromJSON(fmt.Appendf(nil,
				`{"$type":"io.atcr.tag","b":{"$type":"blob","ref":{"$link":%q},"mimeType":"text/plain","size":%d}}`, c, len(data))); err != nil {
				t.Fatal(err)
			}
		}
		if ws = append(ws, w); len(ws) == repo.MaxWrites || i == n-1 {
			if _, err := r.Apply(t.Context(), ws); err != nil {
				t.Fatal(err)
			}
			ws = nil
		}
	}
	head, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, with := range []bool{false, true} {
		var car bytes.Buffer
		if err := repo.ExportCAR(t.Context(), r, &car, &repo.ExportOptions{Blobs: with}); err != nil {
			t.Fatal(err)
		}
		info, err := repo.VerifyCAR(t.Context(), repo.Source{Reader: bytes.NewReader(car.Bytes()), AnyKey: true})
		if err != nil {
			t.Fatal(err)
		}
		stats, err := inspect(car.Bytes())
		if err != nil {
			t.Fatalf("blobs %v: %v", with, err)
		}
		raw := uint64(0)
		for codec, count := range stats.CodecCounts {
			if codec == 0x55 {
				raw = count
			}
		}
		want := uint64(0)
		if with {
			want = blobs
		}
		if stats.Version != 1 || len(stats.Roots) != 1 || stats.Roots[0].String() != head.CID.String() || !stats.RootsPresent || raw != want ||
			stats.BlockCount != uint64(info.Nodes+info.Records+1)+want {
			t.Errorf("blobs %v: %+v; we see %+v", with, stats, info)
		}
		t.Logf("go-car, blobs %v: %d blocks, codecs %v", with, stats.BlockCount, stats.CodecCounts)
		damaged := bytes.Clone(car.Bytes())
		damaged[len(damaged)/2] ^= 1
		if _, err := inspect(damaged); err == nil {
			t.Error("go-car takes a damaged CAR")
		}

		var two bytes.Buffer
		if err := gocar.WrapV1(bytes.NewReader(car.Bytes()), &two); err != nil {
			t.Fatal(err)
		}
		_, err = repo.VerifyCAR(t.Context(), repo.Source{Reader: &two, Name: "two.car", AnyKey: true})
		if !errors.Is(err, repo.ErrInvalidCAR) || !strings.Contains(err.Error(), "two.car at byte 0: ") ||
			!strings.Contains(err.Error(), "CARv2") {
			t.Errorf("a CARv2: %v", err)
		}
	}
}

// TestLooseByOthers: indigo and go-car take the CARs that we take with blocks and roots beside the repository, and see the same commit and
// tree in them.
func TestLooseByOthers(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	commit, cars := repo.LooseCARs(t, carDID, key)
	pub := public(t, key)
	for _, c := range cars {
		_, err := inspect(c.CAR)
		if (err == nil) != c.Go {
			t.Errorf("%s: go-car: %v", c.Name, err)
		}
		if !c.Go {
			continue
		}
		theirs, tree, err := indigo.LoadRepoFromCAR(t.Context(), bytes.NewReader(c.CAR))
		if err == nil {
			err = theirs.VerifySignature(pub)
		}
		if err == nil {
			err = tree.MST.Verify()
		}
		if err != nil || theirs.DID != carDID {
			t.Errorf("%s: indigo: %v", c.Name, err)
			continue
		}
		info, err := repo.VerifyCAR(t.Context(), repo.Source{Reader: bytes.NewReader(c.CAR), Key: pub})
		if err != nil || info.Commit != commit || info.Data.String() != theirs.Data.String() {
			t.Errorf("%s: %+v, %v; for indigo %s", c.Name, info, err, theirs.Data)
		}
	}
}

// TestLooseByTypeScript: so does @atproto/repo, as far as it can read them: it knows CIDs of 36 bytes.
func TestLooseByTypeScript(t *testing.T) {
	t.Parallel()
	realtest.Need(t, tools.ATProto)
	key := newKey(t)
	_, cars := repo.LooseCARs(t, carDID, key)
	var in bytes.Buffer
	var want []string
	for _, c := range cars {
		if err := json.NewEncoder(&in).Encode(map[string]any{"name": c.Name, "car": c.CAR}); err != nil {
			t.Fatal(err)
		}
		if c.TypeScript {
			want = append(want, c.Name)
		}
	}
	cmd, err := tools.RepoOracleCommand()
	if err != nil {
		t.Fatal(err)
	}
	ask := exec.CommandContext(t.Context(), cmd[0], append(cmd[1:], "cars", carDID, public(t, key).DIDKey())...)
	ask.Stdin, ask.Stderr = &in, os.Stderr
	raw, err := ask.Output()
	if err != nil {
		t.Fatal(err)
	}
	var out struct{ Taken, Refused []string }
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	t.Logf("@atproto/repo refuses %q", out.Refused)
	if !slices.Equal(out.Taken, want) {
		t.Errorf("@atproto/repo takes %q, want %q", out.Taken, want)
	}
}

func inspect(car []byte) (gocar.Stats, error) {
	in, err := gocar.NewReader(bytes.NewReader(car))
	if err != nil {
		return gocar.Stats{}, err
	}
	return in.Inspect(true)
}
