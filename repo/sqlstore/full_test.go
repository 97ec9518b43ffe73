package sqlstore_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// TestFull: a full database refuses with ErrNoSpace and keeps what it had; with space again, writing goes on.
func TestFull(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "repo.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := sqlstore.New(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := repotest.Open(t, s, repo.Options{})
	big := make([]byte, 20_000)
	put := func(i int) error {
		v, err := repo.RecordFrom(map[string]string{"v": fmt.Sprintf("%x", big)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Apply(ctx, []repo.Write{{Action: repo.Put, Collection: "io.atcr.tag", RKey: fmt.Sprintf("k%d", i), Record: v}})
		return err
	}
	if err := put(0); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Write().ExecContext(ctx, "pragma max_page_count = 200"); err != nil {
		t.Fatal(err)
	}
	done := 1
	for ; done < 100; done++ {
		if err = put(done); err != nil {
			break
		}
	}
	if !errors.Is(err, repo.ErrNoSpace) {
		t.Fatalf("after %d records: %v", done, err)
	}
	repotest.Check(t, r, s)
	if _, err := db.Write().ExecContext(ctx, "pragma max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	if err := put(done); err != nil {
		t.Fatalf("with space again: %v", err)
	}
	if _, err := r.Get(ctx, "io.atcr.tag", "k0"); err != nil {
		t.Fatal(err)
	}
	repotest.Check(t, r, s)
}
