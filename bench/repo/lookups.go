package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/bench/internal/rounds"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

const few = 1000 // records of the small repository

// server is the options of a server with a large repository.
func server() *sqlite.Options { return &sqlite.Options{Mmap: mmap} }

// measureCommits adds a record to the large repository, then appends 4 KiB to a file on the same disk and fsyncs it, in
// turns; medians of both.
func measureCommits(ctx context.Context, b *bench) error {
	db, err := b.fill(ctx, b.large)
	if err != nil {
		return err
	}
	r, shut, err := openWith(ctx, db, server())
	if err != nil {
		return err
	}
	err = b.commits(ctx, r, "SQLite", 3)
	return errors.Join(err, shut())
}

func (b *bench) commits(ctx context.Context, r *repo.Repo, database string, most float64) (err error) {
	f, err := os.OpenFile(filepath.Join(b.Folder, "appended"), os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, 4096)
	var ours, appended []float64
	rounds.SyncDisk()
	for i := range b.scale(1000) + 50 {
		w, err := layer(b.large + i)
		if err != nil {
			return err
		}
		w.RKey = "" // a new TID
		began := time.Now()
		if _, err := r.Apply(ctx, []repo.Write{w}); err != nil {
			return err
		}
		took := since(began)
		began = time.Now()
		if _, err := f.Write(page); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if i < 50 {
			continue // what a repository knows that was just opened is another question
		}
		ours, appended = append(ours, took), append(appended, since(began))
	}
	b.Within(rounds.Row{
		What: fmt.Sprintf("one more record into %d, durable, signed (%s)", b.large, database),
		To:   "4 KiB appended and fsync", Most: most, Unit: "ms",
	}, rounds.Median(ours), rounds.Median(appended))
	return nil
}

// measureOpen opens the large and the small repository in turns.
func measureOpen(ctx context.Context, b *bench) error {
	return b.bothSizes(ctx, func(large, small string) error {
		var took [2][]float64
		for range b.scale(100) + 2 {
			for i, db := range []string{large, small} {
				began := time.Now()
				_, shut, err := openWith(ctx, db, server())
				if err != nil {
					return err
				}
				took[i] = append(took[i], since(began))
				if err := shut(); err != nil {
					return err
				}
			}
		}
		b.Within(rounds.Row{What: fmt.Sprintf("open %d records", b.large), To: fmt.Sprintf("%d records", few), Most: 1.25, Unit: "ms"},
			rounds.Median(took[0]), rounds.Median(took[1]))
		return nil
	})
}

func (b *bench) bothSizes(ctx context.Context, f func(large, small string) error) error {
	large, err := b.fill(ctx, b.large)
	if err != nil {
		return err
	}
	small, err := b.fill(ctx, few)
	if err != nil {
		return err
	}
	return f(large, small)
}

// measureReads reads records and pages of both repositories at random places, in turns.
func measureReads(ctx context.Context, b *bench) error {
	return b.bothSizes(ctx, func(large, small string) error {
		r, shut, err := openWith(ctx, large, server())
		if err != nil {
			return err
		}
		defer shut() //nolint:errcheck // read only
		s, shutSmall, err := openWith(ctx, small, server())
		if err != nil {
			return err
		}
		defer shutSmall() //nolint:errcheck // read only
		return b.reads(ctx, r, s, "SQLite", 40_000)
	})
}

// reads first does so many that are not measured: a process that was just started has not mapped the file's pages yet.
func (b *bench) reads(ctx context.Context, large, small *repo.Repo, database string, warm int) error {
	warm = b.scale(warm)
	sides := []struct {
		r *repo.Repo
		n int
	}{{large, b.large}, {small, few}}
	for _, one := range []struct {
		what string
		n    int
		read func(*repo.Repo, string) error
	}{
		{"get a record", 10_000, func(r *repo.Repo, key string) error { return getOne(ctx, r, key) }},
		{"a page of 100 records", 2000, func(r *repo.Repo, key string) error { return page(ctx, r, key) }},
	} {
		var took [2][]float64
		for k := range warm + b.scale(one.n) + 2 {
			for i, side := range sides {
				key := layerKey(b.Rand.IntN(side.n - 101))
				began := time.Now()
				if err := one.read(side.r, key); err != nil {
					return err
				}
				if k >= warm {
					took[i] = append(took[i], float64(time.Since(began).Nanoseconds())/1000)
				}
			}
		}
		b.Within(rounds.Row{
			What: fmt.Sprintf("%s of %d (%s)", one.what, b.large, database), To: fmt.Sprintf("%d records", few), Most: 2, Unit: "us",
		}, rounds.Median(took[0]), rounds.Median(took[1]))
		warm = 0
	}
	return nil
}

func getOne(ctx context.Context, r *repo.Repo, key string) error {
	_, err := r.Get(ctx, atcr.NSIDLayer, key)
	return err
}

func page(ctx context.Context, r *repo.Repo, key string) error {
	n := 0
	for _, err := range r.List(ctx, atcr.NSIDLayer, key, false) {
		if err != nil {
			return err
		}
		if n++; n == 100 {
			return nil
		}
	}
	return fmt.Errorf("a page of %d records", n)
}
