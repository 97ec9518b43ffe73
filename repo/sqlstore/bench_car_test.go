package sqlstore_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// BenchmarkCAR exports, verifies and imports a repository of 100 000 records.
func BenchmarkCAR(b *testing.B) {
	r := filled(b, 100_000)
	file := filepath.Join(b.TempDir(), "x.car")
	export := func(b *testing.B, w io.Writer) {
		b.Helper()
		if err := repo.ExportCAR(b.Context(), r, w, nil); err != nil {
			b.Fatal(err)
		}
	}
	f, err := os.Create(file)
	if err != nil {
		b.Fatal(err)
	}
	export(b, f)
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	open := func(b *testing.B) repo.Source {
		f, err := os.Open(file)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { f.Close() })
		return repo.Source{Reader: f, Key: r.PublicKey()}
	}
	b.Run("export", func(b *testing.B) {
		for b.Loop() {
			export(b, io.Discard)
		}
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if _, err := repo.VerifyCAR(b.Context(), open(b)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("import", func(b *testing.B) {
		n := 0
		for b.Loop() {
			n++
			to := repotest.Open(b, openStore(b, filepath.Join(b.TempDir(), fmt.Sprint(n))), repo.Options{})
			if got, err := repo.ImportCAR(b.Context(), to, open(b)); err != nil || got.Created != 100_000 {
				b.Fatal(got.Created, err)
			}
		}
	})
}
