package realtest

import (
	"os"
	"path/filepath"
	"testing"
)

// SmallDisk is a file system of its own in Dir, which really runs full.
type SmallDisk struct {
	Dir string
	t   testing.TB
}

// NewSmallDisk mounts a file system of so many bytes, in memory, and unmounts it when the test ends. That takes root on
// Linux: elsewhere the test is skipped, and as root a failure to mount fails it.
func NewSmallDisk(t testing.TB, size int64) *SmallDisk {
	t.Helper()
	if os.Getenv("ATCR_REAL") == "off" {
		t.Skip("realtest: skipped: ATCR_REAL=off")
	}
	if os.Geteuid() != 0 {
		t.Skip("realtest: skipped: a small disk takes root, to mount it")
	}
	d := &SmallDisk{Dir: t.TempDir(), t: t}
	mountSmall(t, d.Dir, size)
	return d
}

func (d *SmallDisk) ballast() string { return filepath.Join(d.Dir, "ballast") }

// Fill leaves so many bytes free.
func (d *SmallDisk) Fill(leave int64) {
	d.t.Helper()
	free := freeBytes(d.t, d.Dir)
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if n := free - leave; n > 0 {
		if _, err := f.Write(make([]byte, n)); err != nil {
			d.t.Fatal(err)
		}
	}
}

// Free gives back what Fill took.
func (d *SmallDisk) Free() {
	d.t.Helper()
	if err := os.Remove(d.ballast()); err != nil {
		d.t.Fatal(err)
	}
}
