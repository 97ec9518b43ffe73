package sqlstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// TestGrowth: under updates without end the file reaches a size and stays there, and so does its log.
func TestGrowth(t *testing.T) {
	t.Parallel()
	records, keep, updates := 2000, 300, 1500
	if os.Getenv("ATCR_LONG") != "" {
		records, keep, updates = 100_000, 1000, 10_000
	}
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "repo.db")
	db, err := sqlite.Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := sqlstore.New(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := repotest.Open(t, s, repo.Options{KeepEvents: keep})
	put := func(i, v int) repo.Write {
		value, err := repo.RecordFrom(map[string]string{"v": fmt.Sprintf("%0300d", v)})
		if err != nil {
			t.Error(err)
		}
		return repo.Write{Action: repo.Put, Collection: "io.atcr.tag", RKey: fmt.Sprintf("k%d", i), Record: value}
	}
	for at := 0; at < records; at += 1000 {
		var ws []repo.Write
		for i := at; i < at+1000; i++ {
			ws = append(ws, put(i, 0))
		}
		if _, err := r.Apply(ctx, ws); err != nil {
			t.Fatal(err)
		}
	}
	update := func(round int) (pages int) {
		var wg sync.WaitGroup
		errs := make([]error, 32)
		for w := range errs { // those that wait at the same time share transactions, so this takes seconds
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(round), uint64(w)))
				for range updates / len(errs) {
					if _, err := r.Apply(ctx, []repo.Write{put(rnd.IntN(records), rnd.IntN(1<<30))}); err != nil {
						errs[w] = err
						return
					}
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if err := db.Read().QueryRowContext(ctx, "pragma page_count").Scan(&pages); err != nil {
			t.Fatal(err)
		}
		return pages
	}
	sizes := []int{update(0), update(1)} // the events that are kept, and as many free pages as pruning leaves
	for round := range 4 {
		sizes = append(sizes, update(2+round))
	}
	t.Logf("pages after each %d updates: %v", updates, sizes)
	if last := sizes[len(sizes)-1]; last > sizes[1]+sizes[1]/20 {
		t.Errorf("%d pages, and %d after %d updates more", sizes[1], last, 4*updates)
	}
	log, err := os.Stat(path + "-wal")
	if err != nil || log.Size() > 24<<20 {
		t.Errorf("the log has %d bytes, %v", log.Size(), err)
	}
	n := 0
	for _, err := range r.Events(ctx, 0) {
		if n++; err != nil {
			t.Fatal(err)
		}
	}
	if n < keep || n > keep+256 {
		t.Errorf("%d events are kept, want %d to %d", n, keep, keep+256)
	}
}
