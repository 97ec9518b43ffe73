package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/tools"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
)

// TestRepoInterop: a CAR by @atproto/repo, which is not in streaming order, is verified, imported under another DID
// and mirrored by us; what we export is verified by @atproto/repo and indigo, down to the same root.
func TestRepoInterop(t *testing.T) {
	t.Parallel()
	realtest.Need(t, tools.ATProto)
	n := manyRecords()
	ctx, dir := t.Context(), t.TempDir()
	const theirDID, ourDID = "did:web:theirs.example", "did:web:ours.example"
	theirs := filepath.Join(dir, "theirs.car")
	made := askOracle(t, nil, "create", theirs, theirDID, strconv.Itoa(n))
	key, err := atcrypto.ParsePublicDIDKey(made.Key)
	if err != nil {
		t.Fatal(err)
	}
	source := func() repo.Source {
		f, err := os.Open(theirs)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return repo.Source{Reader: f, Name: "theirs.car", DID: theirDID, Key: key}
	}
	info, err := repo.VerifyCAR(ctx, source())
	if err != nil || info.Records != made.Records || info.Data.String() != made.Data {
		t.Fatalf("we verify theirs: %+v, %v", info, err)
	}
	t.Logf("streaming order: %v", info.Streaming)

	own, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	store, err := sqlstore.Open(ctx, filepath.Join(dir, "ours.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	r, err := repo.Open(ctx, store, repo.Options{DID: ourDID, Key: own})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := repo.ImportCAR(ctx, r, source())
	if err != nil || got.Created != made.Records || got.Commit.Data != info.Data {
		t.Fatalf("import: %+v, %v", got.Commit, err)
	}
	judge(t, r, "imported")
	mirrored(t, filepath.Join(dir, "mirrored.car"), source(), made)
	var ws []repo.Write
	for i := range 500 {
		v, err := repo.RecordFrom(map[string]int{"v": i})
		if err != nil {
			t.Fatal(err)
		}
		ws = append(ws, repo.Write{Action: repo.Put, Collection: "io.atcr.tag", RKey: fmt.Sprintf("more%d", i), Record: v})
	}
	gone := 0
	for rec, err := range r.List(ctx, "app.unknown.thing", "", false) {
		if err != nil {
			t.Fatal(err)
		}
		ws = append(ws, repo.Write{Action: repo.Delete, Collection: rec.Collection, RKey: rec.RKey})
		if gone++; gone == 3000 {
			break
		}
	}
	if _, err := r.Apply(ctx, ws); err != nil {
		t.Fatal(err)
	}
	judge(t, r, "changed")
}

// mirrored restores their repository as it was: the same commit, by their key, which they find good.
func mirrored(t *testing.T, file string, src repo.Source, made oracle) {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "mirror.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close() //nolint:errcheck // a temporary file
	info, err := repo.MirrorCAR(t.Context(), store, src, nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := atcrypto.GeneratePrivateKeyP256() // for no commit
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), store, repo.Options{DID: src.DID, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // nothing was written
	export(t, r, file, nil)
	if seen := askOracle(t, nil, "verify", file, src.DID, made.Key); seen.Records != made.Records || seen.Data != made.Data ||
		seen.Rev != info.Rev {
		t.Errorf("mirrored: they see %+v, it was %+v", seen, made)
	}
}
