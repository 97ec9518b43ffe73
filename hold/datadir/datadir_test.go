package datadir_test

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/identity"
	identitybackup "github.com/atcr-dev/atcr/identity/backup"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/storage"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// config is that of a folder, written without package hold.
func config(dir string) datadir.Config {
	return datadir.Config{
		Dir: dir, Log: slog.New(slog.DiscardHandler),
		Identity: identity.Config{PublicURL: "https://hold.example.com", Services: identity.HoldServices(), Log: slog.New(slog.DiscardHandler)},
	}
}

// A folder is made, read, and restored elsewhere, and no server is in the program.
func TestWithoutAServer(t *testing.T) {
	t.Parallel()
	ctx, cfg := t.Context(), config(filepath.Join(t.TempDir(), "hold"))
	for what, read := range map[string]func() error{
		"ReadRepo": func() error { _, err := datadir.ReadRepo(ctx, cfg); return err },
		"Read":     func() error { _, err := datadir.Read(ctx, cfg); return err },
	} {
		err := read()
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s of a hold that was never started: %v", what, err)
		}
		if !strings.Contains(err.Error(), "start the hold once") || strings.Contains(err.Error(), fs.ErrNotExist.Error()) {
			t.Errorf("%s of a hold that was never started does not say what to do: %v", what, err)
		}
	}
	if _, err := datadir.ReadRepo(ctx, datadir.Config{}); err == nil || !strings.Contains(err.Error(), "Dir is empty") {
		t.Errorf("no folder: %v", err)
	}

	o, err := datadir.OpenRepo(ctx, cfg)
	must(t, err)
	if _, err := datadir.OpenRepo(ctx, cfg); !errors.Is(err, datadir.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	member, err := repo.RecordFrom(atcr.Crew{Member: "did:web:alice.test", Role: "member", Permissions: []string{"blob:read"}})
	must(t, err)
	_, err = o.Repo.Apply(ctx, []repo.Write{{Action: repo.Create, Collection: atcr.NSIDCrew, RKey: "alice", Record: member}})
	must(t, err)
	r, err := datadir.ReadRepo(ctx, cfg) // beside who writes
	must(t, err)
	_, err = r.Repo.Get(ctx, atcr.NSIDCrew, "alice")
	must(t, err)
	must(t, r.Close())
	must(t, o.Close())

	never, err := datadir.Read(ctx, cfg) // no server has made its tables
	must(t, err)
	var none bytes.Buffer
	if err := never.WriteMetadata(ctx, &none); err != nil || none.Len() > 0 || never.DB != nil {
		t.Errorf("metadata of a hold that was never served: %q, %v", none.String(), err)
	}
	must(t, never.Close())
	if _, err := os.Stat(filepath.Join(cfg.Dir, "hold.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made hold.db: %v", err)
	}

	into := config(filepath.Join(t.TempDir(), "new"))
	d := restore(t, cfg, into)
	c, err := datadir.Read(ctx, into)
	must(t, err)
	defer c.Close()
	if _, err := c.Repo.Get(ctx, atcr.NSIDCrew, "alice"); err != nil || c.Repo.DID() != "did:web:hold.example.com" {
		t.Errorf("restored %s: %v", c.Repo.DID(), err)
	}
	if info, err := c.Layers.Stat(ctx, d); err != nil || info.Size != 5 {
		t.Errorf("the layer: %+v, %v", info, err)
	}
	var lines bytes.Buffer
	if err := c.WriteMetadata(ctx, &lines); err != nil || !strings.Contains(lines.String(), "at://x") {
		t.Errorf("metadata %q: %v", lines.String(), err)
	}
}

// restore brings what lies in one folder into another, with a layer; until Done that is no hold.
func restore(t *testing.T, from, into datadir.Config) digest.Digest {
	t.Helper()
	ctx := t.Context()
	o, err := datadir.ReadRepo(ctx, from)
	must(t, err)
	var car, id bytes.Buffer
	must(t, repo.ExportCAR(ctx, o.Repo, &car, nil))
	seq, err := o.Repo.Seq(ctx)
	must(t, err)
	did := o.Identity.DID
	must(t, o.Close())
	key, err := age.GenerateX25519Identity()
	must(t, err)
	from.Identity.Dir = from.Dir
	must(t, identitybackup.Export(&id, from.Identity, key.Recipient()))

	must(t, os.MkdirAll(into.Dir, 0o700))
	letter := filepath.Join(into.Dir, "letter")
	must(t, os.WriteFile(letter, nil, 0o600))
	if _, err := datadir.BeginRestore(into, did, "one"); !errors.Is(err, datadir.ErrNotEmpty) || !strings.Contains(err.Error(), "letter") {
		t.Errorf("into a folder with something in it: %v", err)
	}
	must(t, os.Remove(letter))
	begun, err := datadir.BeginRestore(into, did, "one")
	must(t, err)
	must(t, begun.Close())
	if what, err := datadir.RestoreInProgress(into.Dir); err != nil || what != "one" {
		t.Errorf("in progress: %q, %v", what, err)
	}
	if err := datadir.CheckRestore(into, did, "two"); !errors.Is(err, datadir.ErrRestoreInProgress) {
		t.Errorf("something else: %v", err)
	}
	if _, err := datadir.OpenRepo(t.Context(), into); !errors.Is(err, datadir.ErrRestoreInProgress) {
		t.Errorf("opened meanwhile: %v", err)
	}

	r, err := datadir.BeginRestore(into, did, "one") // again
	must(t, err)
	_, err = identitybackup.Import(&id, r.Identity(), key)
	must(t, err)
	_, err = r.Repo(ctx, repo.Source{Reader: &car}, seq)
	must(t, err)
	must(t, r.Metadata(ctx, strings.NewReader(`{"did":"did:web:alice.test","repository":"app","digest":"sha256:0","uri":"at://x"}`)))
	d := digest.FromString("layer")
	up, err := r.Storage().Create(ctx, storage.Hint{Digest: d})
	must(t, err)
	_, err = up.Write([]byte("layer"))
	must(t, err)
	_, err = up.Commit(ctx, d)
	must(t, err)
	must(t, r.Done())
	must(t, r.Close())
	if what, err := datadir.RestoreInProgress(into.Dir); err != nil || what != "" {
		t.Errorf("done, still in progress: %q, %v", what, err)
	}
	return d
}

// An event number that nothing could follow is refused.
func TestRestoreSeq(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o, err := datadir.OpenRepo(ctx, config(filepath.Join(t.TempDir(), "hold")))
	must(t, err)
	var car bytes.Buffer
	must(t, repo.ExportCAR(ctx, o.Repo, &car, nil))
	key, did := o.Identity.Key, o.Identity.DID
	must(t, o.Close())
	for _, seq := range []int64{-1, 1 << 53, 1<<63 - 1, 9223372033254775807} {
		cfg := config(filepath.Join(t.TempDir(), "new"))
		must(t, os.MkdirAll(filepath.Join(cfg.Dir, "keys"), 0o700))
		must(t, os.WriteFile(filepath.Join(cfg.Dir, "keys", "signing.key"), []byte(key.Multibase()), 0o600))
		must(t, os.WriteFile(filepath.Join(cfg.Dir, "did.txt"), []byte(did.String()), 0o600))
		r, err := datadir.BeginRestore(cfg, did, "a test")
		must(t, err)
		if _, err := r.Repo(ctx, repo.Source{Reader: bytes.NewReader(car.Bytes())}, seq); !errors.Is(err, repo.ErrSeq) {
			t.Errorf("%d: %v", seq, err)
		}
		c, err := r.Repo(ctx, repo.Source{Reader: bytes.NewReader(car.Bytes())}, 1<<52)
		if err != nil || !c.CID.Defined() {
			t.Errorf("after that: %+v, %v", c, err)
		}
		must(t, r.Close())
	}
}
