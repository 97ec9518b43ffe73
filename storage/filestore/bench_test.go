package filestore

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// BenchmarkGrowth shows what ten times the blobs do to each operation: look-ups stay flat.
//
//	go test -bench Growth -run '^$' ./storage/filestore
func BenchmarkGrowth(b *testing.B) {
	sizes := []int{1000, 10_000}
	if os.Getenv("ATCR_LONG") != "" {
		sizes = append(sizes, 100_000)
	}
	for _, n := range sizes {
		s, err := Open(b.TempDir(), nil)
		if err != nil {
			b.Fatal(err)
		}
		fillBlobs(b, s, n)
		blob := func(i int) digest.Digest { return digest.FromString(fmt.Sprint(i * 7919 % n)) }
		ctx := context.Background()
		b.Run(fmt.Sprintf("Stat/blobs=%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if _, err := s.Stat(ctx, blob(i)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("Open/blobs=%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				r, _, err := s.Open(ctx, blob(i))
				if err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
		b.Run(fmt.Sprintf("Put4KiB/blobs=%d", n), func(b *testing.B) {
			content := pattern(4096)
			for i := 0; b.Loop(); i++ {
				copy(content, fmt.Sprintf("%d %d %d", n, b.N, i))
				benchPut(b, s, content)
			}
		})
		b.Run(fmt.Sprintf("WalkPage100/blobs=%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				left := 100
				for _, err := range s.Walk(ctx, blob(i)) {
					if err != nil {
						b.Fatal(err)
					}
					if left--; left == 0 {
						break
					}
				}
			}
		})
		s.Close()
	}
}

// BenchmarkPut is one writer with blobs of some sizes.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s, err := Open(b.TempDir(), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			content := pattern(size)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				copy(content, fmt.Sprintf("%d %d", b.N, i))
				benchPut(b, s, content)
			}
		})
	}
}

func benchPut(b *testing.B, s *Store, content []byte) {
	b.StopTimer()
	d := digest.FromBytes(content)
	b.StartTimer()
	up, err := s.Create(context.Background(), storage.Hint{Digest: d})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := up.ReadFrom(bytes.NewReader(content)); err != nil {
		b.Fatal(err)
	}
	if _, err := up.Commit(context.Background(), d); err != nil {
		b.Fatal(err)
	}
}

// fillBlobs puts small blobs in place without the fsyncs, which aren't what is measured.
func fillBlobs(b *testing.B, s *Store, n int) {
	b.Helper()
	for i := range n {
		content := fmt.Sprint(i)
		path := s.blob(digest.FromString(content))
		if err := os.Mkdir(filepath.Dir(path), dirPerm); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), filePerm); err != nil {
			b.Fatal(err)
		}
	}
}
