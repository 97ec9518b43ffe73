package backup_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/filestore"
)

const owner = "did:web:owner.test"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lockedBuffer collects a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func config(dir string) hold.Config {
	return hold.Config{
		Dir: dir, PublicURL: "https://hold.example.com", OwnerDID: owner, Public: true,
		Crew: []hold.CrewMember{{Member: "did:web:alice.test", Permissions: []string{"blob:write"}, Tier: "deckhand"}},
		Log:  slog.New(slog.DiscardHandler),
	}
}

// made is a hold on the disk, stopped, with layers of alice's.
type made struct {
	t      testing.TB
	cfg    hold.Config
	layers []digest.Digest
}

func makeHold(t testing.TB, layers int) *made {
	t.Helper()
	h := &made{t: t, cfg: config(filepath.Join(t.TempDir(), "hold"))}
	s, err := hold.New(t.Context(), h.cfg)
	must(t, err)
	must(t, s.Close())
	db, err := sqlite.Open(t.Context(), filepath.Join(h.cfg.Dir, "hold.db"))
	must(t, err)
	_, err = db.Write().ExecContext(t.Context(), `insert into hold_manifest (did, repository, digest, uri)
		values ('did:web:alice.test', 'app', 'sha256:00', 'at://x')`)
	must(t, err)
	must(t, db.Close())
	h.push(layers)
	return h
}

// push adds layers, the blob before its record, as a hold does.
func (h *made) push(n int) {
	h.t.Helper()
	if n == 0 {
		return
	}
	o, err := datadir.OpenRepo(h.t.Context(), dataDir(h.t, h.cfg))
	must(h.t, err)
	store, err := filestore.Open(filepath.Join(h.cfg.Dir, "blobs"), nil)
	must(h.t, err)
	for range n {
		d, _ := pushLayer(h.t, o.Repo, store, len(h.layers))
		h.layers = append(h.layers, d)
	}
	must(h.t, store.Close())
	must(h.t, o.Close())
}

// apply writes to the hold's repository in one commit.
func (h *made) apply(writes ...repo.Write) {
	h.t.Helper()
	o, err := datadir.OpenRepo(h.t.Context(), dataDir(h.t, h.cfg))
	must(h.t, err)
	_, err = o.Repo.Apply(h.t.Context(), writes)
	must(h.t, err)
	must(h.t, o.Close())
}

func create(t testing.TB, collection, rkey string, record any) repo.Write {
	t.Helper()
	value, err := repo.RecordFrom(record)
	must(t, err)
	return repo.Write{Action: repo.Create, Collection: collection, RKey: rkey, Record: value}
}

func (h *made) rotate() {
	h.t.Helper()
	s, err := hold.New(h.t.Context(), h.cfg)
	must(h.t, err)
	_, err = s.RotateSigningKey(h.t.Context(), "")
	must(h.t, err)
	must(h.t, s.Close())
}

func pattern(seed, size int) []byte {
	r := rand.New(rand.NewPCG(uint64(seed), 7))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func pushLayer(t testing.TB, to *repo.Repo, store storage.Store, n int) (digest.Digest, string) {
	t.Helper()
	data := pattern(n, 10_000+n)
	d := digest.FromBytes(data)
	up, err := store.Create(context.Background(), storage.Hint{Digest: d})
	must(t, err)
	_, err = up.Write(data)
	must(t, err)
	_, err = up.Commit(context.Background(), d)
	must(t, err)
	c, err := to.Apply(context.Background(), []repo.Write{create(t, atcr.NSIDLayer, "", atcr.Layer{
		Digest: d.String(), Size: int64(len(data)), MediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
		Manifest: fmt.Sprintf("at://did:web:alice.test/io.atcr.manifest/%d", n), UserDID: "did:web:alice.test",
		CreatedAt: atcr.NewDatetime(time.Now()),
	})})
	must(t, err)
	return d, c.Results[0].RKey
}

func (h *made) parts() *datadir.Contents {
	h.t.Helper()
	p, err := datadir.Read(h.t.Context(), dataDir(h.t, h.cfg))
	must(h.t, err)
	h.t.Cleanup(func() { p.Close() })
	return p
}

// create makes one backup.
func (h *made) create(t backup.Target, o backup.Options) *backup.Manifest {
	h.t.Helper()
	p, err := datadir.Read(h.t.Context(), dataDir(h.t, h.cfg))
	must(h.t, err)
	m, err := backup.Create(h.t.Context(), t, p, o)
	must(h.t, err)
	must(h.t, p.Close())
	return m
}

// key is the one that signs the hold's sets.
func (h *made) key() atcrypto.PrivateKey {
	h.t.Helper()
	id, err := identity.Load(dataDir(h.t, h.cfg).Identity)
	must(h.t, err)
	return id.Key
}

// trust takes the hold's sets, of any age.
func (h *made) trust() backup.Trust {
	h.t.Helper()
	return backup.Trust{Keys: []string{didKey(h.t, h.key())}, Older: true}
}

func didKey(t testing.TB, key atcrypto.PrivateKey) string {
	t.Helper()
	pub, err := key.PublicKey()
	must(t, err)
	return pub.DIDKey()
}

// state is what must be the same after a restore.
func state(t testing.TB, cfg hold.Config) (did string, records []string, seq int64) {
	t.Helper()
	o, err := datadir.ReadRepo(t.Context(), dataDir(t, cfg))
	must(t, err)
	defer o.Close()
	colls, err := o.Repo.Collections(t.Context())
	must(t, err)
	for _, c := range colls {
		for rec, err := range o.Repo.List(t.Context(), c, "", false) {
			must(t, err)
			records = append(records, rec.Path()+" "+rec.CID.String())
		}
	}
	seq, err = o.Repo.Seq(t.Context())
	must(t, err)
	if ok, err := o.Repo.Signed(t.Context()); err != nil || !ok {
		t.Errorf("the newest commit is not signed by the identity's key: %v", err)
	}
	return o.Identity.DID.String(), records, seq
}

// same compares a restored hold with what was backed up, and starts it.
func same(t testing.TB, got hold.Config, did string, records []string, seq int64, layers []digest.Digest) {
	t.Helper()
	gotDID, gotRecords, gotSeq := state(t, got)
	if gotDID != did || !slices.Equal(gotRecords, records) {
		t.Errorf("restored %s with %d records, want %s with %d", gotDID, len(gotRecords), did, len(records))
	}
	if gotSeq <= seq || gotSeq <= time.Now().UnixMicro() {
		t.Errorf("event numbers go on at %d, seen were %d", gotSeq, seq)
	}
	r, err := dataDir(t, got).Layers()
	must(t, err)
	for i, d := range layers {
		f, _, err := r.Open(t.Context(), d)
		must(t, err)
		b := make([]byte, 10_000+i)
		if n, err := f.Read(b); n != len(b) || digest.FromBytes(b) != d {
			t.Errorf("layer %d: %d bytes, %v", i, n, err)
		}
		must(t, f.Close())
	}
	s, err := hold.New(t.Context(), got)
	must(t, err)
	must(t, s.Close())
	if _, again, _ := state(t, got); !slices.Equal(again, records) {
		t.Error("the start changed the records")
	}
}

func notes(t testing.TB, cfg hold.Config) string {
	t.Helper()
	p, err := datadir.Read(t.Context(), dataDir(t, cfg))
	must(t, err)
	defer p.Close()
	var b strings.Builder
	must(t, p.WriteMetadata(t.Context(), &b))
	return b.String()
}

func keyPair(t testing.TB) (*age.X25519Identity, backup.Options) {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	must(t, err)
	return key, backup.Options{Recipients: []age.Recipient{key.Recipient()}, Layers: true, Version: "test", Log: slog.New(slog.DiscardHandler)}
}

func folder(t testing.TB) *backup.Folder {
	t.Helper()
	f, err := backup.OpenFolder(filepath.Join(t.TempDir(), "target"))
	must(t, err)
	return f
}

// dataDir is where the hold of a configuration lies.
func dataDir(t testing.TB, cfg hold.Config) datadir.Config {
	t.Helper()
	dir, err := cfg.DataDir()
	must(t, err)
	return dir
}
