package sqlstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/repo/sqlstore"
)

// bigRecord is 10 KB.
func bigRecord(t *testing.T, i int) repo.Write {
	t.Helper()
	v, err := repo.RecordFrom(map[string]string{"v": fmt.Sprintf("%d %x", i, make([]byte, 5000))})
	if err != nil {
		t.Fatal(err)
	}
	return repo.Write{Action: repo.Put, Collection: "io.atcr.tag", RKey: fmt.Sprintf("k%d", i), Record: v}
}

// bigCAR is a repository of n such records, and its key.
func bigCAR(t *testing.T, n int) ([]byte, atcrypto.PublicKey) {
	t.Helper()
	r := repotest.Open(t, memstore.New(), repo.Options{})
	var ws []repo.Write
	for i := range n {
		ws = append(ws, bigRecord(t, 1000+i))
	}
	if _, err := r.Apply(t.Context(), ws); err != nil {
		t.Fatal(err)
	}
	var car bytes.Buffer
	if err := repo.ExportCAR(t.Context(), r, &car, nil); err != nil {
		t.Fatal(err)
	}
	return car.Bytes(), r.PublicKey()
}

// diskRepo is a repository on a disk of 16 MB.
func diskRepo(t *testing.T) (*realtest.SmallDisk, *repo.Repo, *sqlstore.Store) {
	t.Helper()
	disk := realtest.NewSmallDisk(t, 16<<20)
	s := openStore(t, filepath.Join(disk.Dir, "repo.db"))
	return disk, repotest.Open(t, s, repo.Options{}), s
}

// TestDiskFullCommit: on a full disk a commit is refused, all that was acknowledged stays, and with space again it goes on.
func TestDiskFullCommit(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	disk, r, s := diskRepo(t)
	disk.Fill(2 << 20)
	done, full := 0, 0
	for full < 5 && done < 2000 {
		_, err := r.Apply(ctx, []repo.Write{bigRecord(t, done)})
		switch {
		case err == nil:
			done++
		case errors.Is(err, repo.ErrNoSpace):
			full++
		default:
			t.Fatalf("after %d commits: %v", done, err)
		}
	}
	if full == 0 || done == 0 {
		t.Fatalf("%d commits, %d refused: the disk was never full", done, full)
	}
	t.Logf("%d commits, then refused", done)
	n := 0
	for _, err := range r.List(ctx, "io.atcr.tag", "", false) {
		if n++; err != nil {
			t.Fatal(err)
		}
	}
	if n != done {
		t.Errorf("%d records, %d were acknowledged", n, done)
	}
	repotest.Check(t, r, s)
	disk.Free()
	for i := range 20 {
		if _, err := r.Apply(ctx, []repo.Write{bigRecord(t, done+i)}); err != nil {
			t.Fatalf("with space again: %v", err)
		}
	}
	repotest.Check(t, r, s)
}

// TestDiskFullImport: an import that fills the disk is refused whole, into an empty repository, into one with records, and
// where the copy of standard input does not fit; with space again the same import works.
func TestDiskFullImport(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	car, key := bigCAR(t, 600) // 6 MB
	for _, c := range []struct {
		name string
		had  int
		pipe bool // the CAR comes from a pipe, and its copy goes to the disk
	}{{"into none", 0, false}, {"into some", 30, false}, {"spill file", 30, true}} {
		t.Run(c.name, func(t *testing.T) {
			disk, r, s := diskRepo(t)
			for i := range c.had {
				if _, err := r.Apply(ctx, []repo.Write{bigRecord(t, i)}); err != nil {
					t.Fatal(err)
				}
			}
			before, err := r.Head(ctx)
			if err != nil {
				t.Fatal(err)
			}
			src := func() repo.Source {
				if c.pipe {
					return repo.Source{Reader: io.MultiReader(bytes.NewReader(car)), Key: key, TempDir: disk.Dir}
				}
				return repo.Source{Reader: bytes.NewReader(car), Key: key}
			}
			disk.Fill(2 << 20)
			if _, err := repo.ImportCAR(ctx, r, src()); !errors.Is(err, repo.ErrNoSpace) || errors.Is(err, repo.ErrInvalidCAR) {
				t.Fatalf("on a full disk: %v", err)
			} else {
				t.Log(err)
			}
			after, err := r.Head(ctx)
			if err != nil || after.CID != before.CID {
				t.Fatalf("head %s after %s: %v", after.CID, before.CID, err)
			}
			repotest.Check(t, r, s)
			if left, err := filepath.Glob(filepath.Join(disk.Dir, "car-*")); err != nil || len(left) > 0 {
				t.Errorf("left over: %v, %v", left, err)
			}
			disk.Free()
			got, err := repo.ImportCAR(ctx, r, src())
			if err != nil || got.Created != 600 {
				t.Fatalf("with space again: %d, %v", got.Created, err)
			}
			repotest.Check(t, r, s)
		})
	}
}

// TestDiskFullExport: an export to a full disk is refused with the kind, and disturbs nobody.
func TestDiskFullExport(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	disk := realtest.NewSmallDisk(t, 1<<20)
	r := repotest.Open(t, openStore(t, filepath.Join(t.TempDir(), "repo.db")), repo.Options{})
	for _, n := range []int{3, 200} { // what fits the buffer of the export, and what does not
		for i := range n {
			if _, err := r.Apply(ctx, []repo.Write{bigRecord(t, i)}); err != nil {
				t.Fatal(err)
			}
		}
		disk.Fill(0)
		f, err := os.Create(filepath.Join(disk.Dir, "x.car"))
		if err != nil {
			t.Fatal(err)
		}
		err = repo.ExportCAR(ctx, r, f, nil)
		if !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("%d records on a full disk: %v", n, err)
		}
		f.Close()
		disk.Free()
	}
	if _, err := r.Apply(ctx, []repo.Write{bigRecord(t, 0)}); err != nil {
		t.Fatal(err)
	}
}

// TestDiskFullMigration: tables that don't fit the disk are refused with the kind, and made when there is space.
func TestDiskFullMigration(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	disk := realtest.NewSmallDisk(t, 1<<20)
	path := filepath.Join(disk.Dir, "repo.db")
	fired := false
	for left := int64(0); left < 200<<10; left += 8 << 10 { // somewhere between nothing and all of it
		disk.Fill(left)
		s, err := sqlstore.Open(ctx, path)
		switch {
		case err == nil:
			s.Close()
		case errors.Is(err, repo.ErrNoSpace):
			fired = true
		default:
			t.Fatalf("with %d bytes left: %v", left, err)
		}
		disk.Free()
		s, err = sqlstore.Open(ctx, path)
		if err != nil {
			t.Fatalf("with space again: %v", err)
		}
		s.Close()
		for _, f := range []string{path, path + "-wal", path + "-shm"} {
			if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	if !fired {
		t.Error("the disk was never full")
	}
}
