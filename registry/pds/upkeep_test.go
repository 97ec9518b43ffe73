package pds

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// Names that anonymous requests had resolved are a bounded number after upkeep, those seen last; bytes of manifests are trimmed while
// they come in, not only then.
func TestBoundedBetweenUpkeep(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b, err := New(ctx, Options{
		DB: db, Directory: identity.NewMockDirectory(), CacheBytes: 4 << 20, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	now := b.clock().Unix()
	_, err = db.Write().ExecContext(ctx, `with recursive n(i) as (select 1 union all select i + 1 from n where i < $1)
		insert into pds_name (name, did, endpoint, seen) select 'n' || i, 'did', 'e', $2 + i from n`, maxNames+500, now)
	if err != nil {
		t.Fatal(err)
	}
	b.keepHouse(ctx)
	var names, oldest int64
	if err := db.Read().QueryRowContext(ctx, `select count(*), min(seen) from pds_name`).Scan(&names, &oldest); err != nil {
		t.Fatal(err)
	}
	if names > maxNames+1 || oldest < now+499 {
		t.Errorf("%d names are kept, the oldest is %d of %d", names, oldest-now, maxNames+500)
	}

	raw := make([]byte, 100_000)
	for i := range 100 {
		copy(raw, fmt.Sprint(i))
		if _, err := b.bodies.keep(ctx, digest.FromBytes(raw), raw); err != nil {
			t.Fatal(err)
		}
		var kept int64
		if err := db.Read().QueryRowContext(ctx, `select coalesce(sum(size), 0) from pds_bytes`).Scan(&kept); err != nil {
			t.Fatal(err)
		}
		if kept > 4<<20+1<<19 || i > 50 && kept < 2<<20 {
			t.Fatalf("%d bytes of manifests after %d", kept, i+1)
		}
	}
}
