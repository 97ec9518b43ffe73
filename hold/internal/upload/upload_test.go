package upload

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/internal/schema"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/memstore"
)

const alice = "did:web:alice.test"

// fixture is uploads over a storage in memory, with leases that are counted.
type fixture struct {
	*Uploads
	t      *testing.T
	o      Options
	leases atomic.Int64
	size   atomic.Int64 // of what was completed
	ahead  atomic.Int64 // seconds that the clock is ahead
}

func newFixture(t *testing.T, hook crashpoint.Hook) *fixture {
	t.Helper()
	dir := t.TempDir()
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "hold.db"))
	if err == nil {
		err = schema.Migrate(t.Context(), db)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	f := &fixture{t: t}
	f.o = Options{
		DB: db, Store: memstore.New(), Spool: filepath.Join(dir, "spool"), MaxSpool: 1 << 20,
		Lease: func(context.Context, *sql.Tx, string, digest.Digest, int64) error { f.leases.Add(1); return nil },
		Release: func(context.Context, *sql.Tx, string, digest.Digest) error {
			f.leases.Add(-1)
			return nil
		},
		Leased:    func(context.Context) (map[string]int64, error) { return nil, nil },
		Completed: func(size int64) { f.size.Add(size) },
		Clock:     func() time.Time { return time.Now().Add(time.Duration(f.ahead.Load()) * time.Second) },
		Log:       slog.New(slog.DiscardHandler), Crash: hook,
	}
	f.open()
	return f
}

// open is a start after whatever happened.
func (f *fixture) open() {
	f.t.Helper()
	var err error
	if f.Uploads, err = Open(f.t.Context(), f.o); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) begin() string {
	f.t.Helper()
	id, err := f.Begin(f.t.Context(), alice, "")
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

func (f *fixture) take(id string, n int, text string) Part {
	f.t.Helper()
	p, err := f.Take(f.t.Context(), id, n, strings.NewReader(text))
	if err != nil {
		f.t.Fatalf("part %d: %v", n, err)
	}
	return p
}

func given(parts ...Part) (list []Given) {
	for _, p := range parts {
		list = append(list, Given{p.Number, p.ETag})
	}
	return list
}

func (f *fixture) visible(d digest.Digest) bool {
	_, err := f.o.Store.Stat(f.t.Context(), d)
	return err == nil
}

// Parts in any order, some twice, make the blob; what was begun by one account is not completed by another.
func TestPartsInAnyOrder(t *testing.T) {
	f := newFixture(t, nil)
	d := digest.FromString("onetwothree")
	id := f.begin()
	three := f.take(id, 3, "three")
	one := f.take(id, 1, "one")
	if u, err := f.Find(t.Context(), id); err != nil || u.Bytes != 3 {
		t.Errorf("after one: %+v, %v", u, err)
	}
	two := f.take(id, 2, "two")
	if again := f.take(id, 1, "one"); again != one {
		t.Errorf("the same part again: %+v, want %+v", again, one)
	}
	if _, err := f.Take(t.Context(), id, 1, strings.NewReader("uno")); !errors.Is(err, ErrBadPart) {
		t.Errorf("other bytes: %v", err)
	}
	u, err := f.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if parts, err := f.Parts(t.Context(), u); err != nil || len(parts) != 3 || u.Bytes != 11 {
		t.Errorf("parts %+v, %d bytes, %v", parts, u.Bytes, err)
	}
	all := given(one, two, three)
	if err := f.Complete(t.Context(), id, "did:web:bob.test", d, all); !errors.Is(err, ErrUnknown) {
		t.Errorf("somebody else: %v", err)
	}
	if err := f.Complete(t.Context(), id, alice, d, all[:2]); !errors.Is(err, ErrMissingParts) {
		t.Errorf("a part is not named: %v", err)
	}
	if err := f.Complete(t.Context(), id, alice, d, []Given{all[1], all[0], all[2]}); !errors.Is(err, ErrPartOrder) {
		t.Errorf("out of order: %v", err)
	}
	for range 2 { // it may be repeated
		if err := f.Complete(t.Context(), id, alice, d, all); err != nil || !f.visible(d) {
			t.Fatalf("complete: %v", err)
		}
	}
	if err := f.Complete(t.Context(), id, alice, digest.FromString("x"), all); !errors.Is(err, ErrOtherDigest) {
		t.Errorf("as another blob: %v", err)
	}
	if f.size.Load() != 11 || f.leases.Load() != 1 {
		t.Errorf("%d bytes completed under %d leases", f.size.Load(), f.leases.Load())
	}
}

// Bytes that aren't the blob are refused, the lease on it ends, and the upload goes on.
func TestWrongDigest(t *testing.T) {
	f := newFixture(t, nil)
	id := f.begin()
	p := f.take(id, 1, "one")
	wrong, right := digest.FromString("two"), digest.FromString("one")
	if err := f.Complete(t.Context(), id, alice, wrong, given(p)); !errors.Is(err, storage.ErrDigestMismatch) {
		t.Fatalf("other bytes: %v", err)
	}
	if f.leases.Load() != 0 || f.visible(wrong) {
		t.Errorf("%d leases, visible: %v", f.leases.Load(), f.visible(wrong))
	}
	if err := f.Complete(t.Context(), id, alice, right, given(p)); err != nil || !f.visible(right) {
		t.Errorf("the right digest: %v", err)
	}
}

// What was abandoned is discarded after a day, with what the spool has of it; what is in use is not.
func TestExpire(t *testing.T) {
	f := newFixture(t, nil)
	old := f.begin()
	f.take(old, 2, strings.Repeat("early", 100))
	f.ahead.Store(int64(life/time.Second) - 60)
	young := f.begin()
	f.take(young, 2, "early")
	f.ahead.Add(120)
	if err := f.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Find(t.Context(), old); !errors.Is(err, ErrUnknown) {
		t.Errorf("the old one: %v", err)
	}
	if _, err := f.Find(t.Context(), young); err != nil {
		t.Errorf("the young one: %v", err)
	}
	if n := f.spool.used.bytes; n != 5 {
		t.Errorf("%d bytes are in the spool, want the 5 of the young one", n)
	}
	if err := f.Abort(t.Context(), young); err != nil || f.spool.used.bytes != 0 {
		t.Errorf("abort: %v, %d bytes in the spool", err, f.spool.used.bytes)
	}
}

// One account has so many uploads open, another's don't count.
func TestTooMany(t *testing.T) {
	f := newFixture(t, nil)
	err := sqlx.InTx(t.Context(), f.o.DB.Write(), func(tx *sql.Tx) error {
		for n := range maxOpen {
			_, err := tx.ExecContext(t.Context(), `insert into hold_upload
				(id, did, digest, storage_id, parts, bytes, commit_digest, done, created, touched)
				values ($1, $2, '', 'x', 0, 0, '', 0, $3, $3)`, keyOf(string(rune(n))+"x"), alice, time.Now().Unix())
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var refused *Error
	if _, err := f.Begin(t.Context(), alice, ""); !errors.Is(err, ErrTooMany) || !errors.As(err, &refused) ||
		!strings.Contains(refused.Message, alice) {
		t.Errorf("one more: %v", err)
	}
	if _, err := f.Begin(t.Context(), "did:web:bob.test", ""); err != nil {
		t.Errorf("another account: %v", err)
	}
}

// TestStopAtEachPoint stops the work at each crash point, starts again, and repeats the call that was cut off: the outcome is
// that of an upload that nothing disturbed.
func TestStopAtEachPoint(t *testing.T) {
	points := []string{
		crashpoint.UploadBegun, crashpoint.PartBytesDurable, crashpoint.PartRecorded, crashpoint.CommitIntended,
		crashpoint.BlobVisible, crashpoint.UploadDone,
	}
	for _, at := range points {
		t.Run(at, func(t *testing.T) {
			type stop struct{}
			fired := false
			f := newFixture(t, func(name string) error {
				if name == at && !fired {
					fired = true
					panic(stop{})
				}
				return nil
			})
			// try repeats what was cut off, after a new start.
			try := func(call func() error) {
				t.Helper()
				for {
					stopped := false
					err := func() error {
						defer func() {
							if r := recover(); r != nil {
								if _, ours := r.(stop); !ours {
									panic(r)
								}
								stopped = true
							}
						}()
						return call()
					}()
					if stopped {
						f.open()
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					return
				}
			}
			var id string
			var parts []Part
			try(func() (err error) { id, err = f.Begin(t.Context(), alice, ""); return err })
			for n, text := range []string{"one", "two"} {
				try(func() error {
					p, err := f.Take(t.Context(), id, n+1, bytes.NewReader([]byte(text)))
					if err == nil {
						parts = append(parts, p)
					}
					return err
				})
			}
			d := digest.FromString("onetwo")
			try(func() error { return f.Complete(t.Context(), id, alice, d, given(parts...)) })
			if !fired {
				t.Error("the point was not reached")
			}
			if !f.visible(d) {
				t.Error("the blob is not visible")
			}
			if u, err := f.Find(t.Context(), id); err != nil || !u.Done || u.Bytes != 6 {
				t.Errorf("%+v, %v", u, err)
			}
		})
	}
}
