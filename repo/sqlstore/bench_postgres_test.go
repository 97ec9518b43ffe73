package sqlstore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// BenchmarkPostgres is what BenchmarkApply, Get and List100 are for SQLite. Each commit is timed next to an appended 4 KiB and fsync
// on the same disk: "x-append" is the ratio of the medians.
func BenchmarkPostgres(b *testing.B) {
	server := realtest.NewPostgres(b)
	for _, n := range []int{1_000, 20_000} {
		r := repotest.Open(b, openPostgres(b, server.Database(b)), repo.Options{})
		fill(b, r, n)
		b.Run(fmt.Sprintf("commit=new/records=%d", n), func(b *testing.B) {
			besideAppend(b, func(int) repo.Write {
				w := tagWrite(b, 0)
				w.Action, w.RKey = repo.Create, ""
				return w
			}, r)
		})
		b.Run(fmt.Sprintf("commit=random/records=%d", n), func(b *testing.B) {
			besideAppend(b, func(int) repo.Write { return tagWrite(b, rand.IntN(1<<30)) }, r)
		})
		b.Run(fmt.Sprintf("get/records=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Get(b.Context(), "io.atcr.tag", fmt.Sprintf("app_v%07d", rand.IntN(n))); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("list100/records=%d", n), func(b *testing.B) {
			for b.Loop() {
				seen := 0
				for _, err := range r.List(b.Context(), "io.atcr.tag", fmt.Sprintf("app_v%07d", rand.IntN(n-100)), false) {
					if err != nil {
						b.Fatal(err)
					}
					if seen++; seen == 100 {
						break
					}
				}
			}
		})
	}
}

func fill(b *testing.B, r *repo.Repo, n int) {
	b.Helper()
	for at := 0; at < n; at += 5000 {
		var ws []repo.Write
		for i := at; i < min(n, at+5000); i++ {
			ws = append(ws, tagWrite(b, i))
		}
		if _, err := r.Apply(b.Context(), ws); err != nil {
			b.Fatal(err)
		}
	}
}

// besideAppend times commits and appends in turns.
func besideAppend(b *testing.B, next func(i int) repo.Write, r *repo.Repo) {
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "append"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, 4096)
	var commits, appends []time.Duration
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		if _, err := r.Apply(b.Context(), []repo.Write{next(i)}); err != nil {
			b.Fatal(err)
		}
		commits = append(commits, time.Since(start))
		b.StopTimer()
		start = time.Now()
		if _, err := f.Write(page); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		appends = append(appends, time.Since(start))
		b.StartTimer()
	}
	slices.Sort(commits)
	slices.Sort(appends)
	commit, appended := commits[len(commits)/2], appends[len(appends)/2]
	b.ReportMetric(float64(commit.Microseconds()), "median-us")
	b.ReportMetric(float64(appended.Microseconds()), "append-us")
	b.ReportMetric(float64(commit)/float64(appended), "x-append")
}
