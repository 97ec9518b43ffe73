package local_test

import (
	"bytes"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
)

// An upload goes on under the repository's name that it was begun under alone, also after a restart.
func TestUploadOfAnotherRepository(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir, nil)
	up, err := name(t, b, "a").StartUpload(ctx, registry.UploadHint{})
	check(t, err)
	id := up.ID()
	_, err = up.ReadFrom(strings.NewReader("some"))
	check(t, err)
	check(t, up.Close())
	try := func() {
		t.Helper()
		for _, other := range []string{"b", "a/b", "aa", "A"} {
			r, err := b.Repository(ctx, registry.Actor{}, other)
			if err == nil {
				_, err = r.Upload(ctx, id)
				is(t, err, registry.ErrUploadUnknown)
			}
		}
		raw, mac, _ := strings.Cut(id, ".")
		for _, forged := range []string{raw, raw + ".", "." + mac, id + "x", strings.ToUpper(id), raw + "." + mac[:len(mac)-1], ""} {
			_, err := name(t, b, "a").Upload(ctx, forged)
			is(t, err, registry.ErrUploadUnknown)
		}
	}
	try()
	if !realtest.OnPostgres() { // whose test database is another each time
		check(t, b.Close())
		b = open(t, dir, nil)
		try()
	}
	up, err = name(t, b, "a").Upload(ctx, id)
	check(t, err)
	if up.ID() != id {
		t.Errorf("the id was %s and is %s", id, up.ID())
	}
	d := digest.FromString("some more")
	if up.Size() == 0 { // an upload this short is kept in memory
		_, err = up.ReadFrom(strings.NewReader("some"))
		check(t, err)
	}
	_, err = up.ReadFrom(strings.NewReader(" more"))
	check(t, err)
	_, err = up.Commit(ctx, d)
	check(t, err)
	is(t, blobOf(name(t, b, "b"), d), registry.ErrBlobUnknown)
	check(t, blobOf(name(t, b, "a"), d))
}

func blobOf(r registry.Repository, d digest.Digest) error {
	_, err := r.Blob(ctx, d)
	return err
}

// One push that is too large does not stop all others for a day: what it left goes first, of whom it takes the most of; what is at rest
// of others stays, and the database can be written.
func TestFullDiskEmpties(t *testing.T) {
	realtest.OnlySQLite(t)
	disk := realtest.NewSmallDisk(t, 24<<20)
	o := quiet()
	var ahead atomic.Int64
	o.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	b := open(t, disk.Dir, o)
	as := func(account, repository string) registry.Repository {
		r, err := b.Repository(ctx, registry.Actor{ID: account}, repository)
		check(t, err)
		return r
	}
	begun := func(account string, size int) (string, error) {
		up, err := as(account, "app").StartUpload(ctx, registry.UploadHint{})
		check(t, err)
		_, err = up.ReadFrom(bytes.NewReader(make([]byte, size)))
		return up.ID(), errors.Join(err, up.Close())
	}
	kept, err := begun("bob", 100_000)
	check(t, err)
	for range 3 { // docker tries again
		_, err := begun("mallory", 60<<20)
		is(t, err, registry.ErrNoSpace)
		var e *registry.Error
		if errors.As(err, &e); !strings.Contains(e.Message, "of 24 MiB are free") || !strings.Contains(e.Message, "can help") {
			t.Errorf("the client is told %q", e.Message)
		}
	}
	layer := strings.Repeat("layer ", 1<<20/6)
	_, err = image(as("alice", "app"), layer, "")
	is(t, err, registry.ErrNoSpace) // until a minute has passed somebody may be at work on what is there
	ahead.Store(int64(2 * time.Minute))
	m, err := image(as("alice", "app"), layer, "")
	check(t, err)
	check(t, as("alice", "app").PutManifest(ctx, m, []string{"v1"}))
	up, err := as("bob", "app").Upload(ctx, kept)
	check(t, err)
	if up.Size() != 100_000 {
		t.Errorf("bob's upload has %d bytes", up.Size())
	}
	check(t, up.Close())

	// Full by other means: what can't be freed is told, and the database still has its part.
	disk.Fill(24 << 20 / 16)
	_, err = begun("alice", 1<<20)
	is(t, err, registry.ErrNoSpace)
	check(t, as("alice", "app").PutManifest(ctx, m, []string{"v2"}))
	disk.Free()
	_, err = begun("alice", 1<<20)
	check(t, err)
}
