package sqlstore_test

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// sizes are how many records a benchmark's repository holds: what is flat stays the same from one to the next.
var sizes = []int{100, 1_000, 10_000}

func filled(b *testing.B, n int) *repo.Repo {
	b.Helper()
	r := repotest.Open(b, openStore(b, filepath.Join(b.TempDir(), "repo.db")), repo.Options{})
	for at := 0; at < n; at += 1000 {
		var ws []repo.Write
		for i := at; i < min(n, at+1000); i++ {
			ws = append(ws, tagWrite(b, i))
		}
		if _, err := r.Apply(b.Context(), ws); err != nil {
			b.Fatal(err)
		}
	}
	return r
}

func tagWrite(b *testing.B, i int) repo.Write {
	b.Helper()
	v, err := repo.RecordFromJSON(fmt.Appendf(nil, `{"$type":"io.atcr.tag","repository":"app","tag":"v%d","updatedAt":"2026-11-23T12:00:00.000Z"}`, i))
	if err != nil {
		b.Fatal(err)
	}
	return repo.Write{Action: repo.Put, Collection: "io.atcr.tag", RKey: fmt.Sprintf("app_v%07d", i), Record: v}
}

func BenchmarkApply(b *testing.B) {
	for _, writers := range []int{1, 4} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("writers=%d/records=%d", writers, n), func(b *testing.B) {
				r := filled(b, n)
				next := atomic.Int64{}
				next.Store(int64(n))
				b.SetParallelism(max(1, writers/2))
				b.ResetTimer()
				if writers == 1 {
					for b.Loop() {
						if _, err := r.Apply(b.Context(), []repo.Write{tagWrite(b, int(next.Add(1)))}); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := r.Apply(b.Context(), []repo.Write{tagWrite(b, int(next.Add(1)))}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			r := filled(b, n)
			i := 0
			for b.Loop() {
				i = (i + 7919) % n
				if _, err := r.Get(b.Context(), "io.atcr.tag", fmt.Sprintf("app_v%07d", i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkList100(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			r := filled(b, n)
			i := 0
			for b.Loop() {
				i = (i + 7919) % n
				seen := 0
				for _, err := range r.List(b.Context(), "io.atcr.tag", fmt.Sprintf("app_v%07d", i), false) {
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
