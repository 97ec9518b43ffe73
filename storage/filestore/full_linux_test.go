package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// smallDisk mounts a file system of so many bytes. Only root may; others skip, and fail where ATCR_REAL=require.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		msg := fmt.Sprintf("disk full: a small file system can't be mounted (%v); run as root", err)
		if os.Getenv("ATCR_REAL") == "require" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
			syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
	return dir
}

// TestDiskFull walks through the places where a disk can be full.
func TestDiskFull(t *testing.T) {
	const size = 4 << 20
	s := open(t, smallDisk(t, fmt.Sprintf("size=%d", size)))
	kept := pattern(100_000)
	put(t, s, kept)
	up := create(t, s)
	b := pattern(500_000)
	write(t, up, b[:200_000])
	must(t, up.Flush(t.Context()))

	ballast := create(t, s)
	n, err := ballast.ReadFrom(bytes.NewReader(pattern(2 * size)))
	if !errors.Is(err, storage.ErrNoSpace) || n >= 2*size || ballast.Size() != n {
		t.Fatalf("filling the disk: %d bytes, Size %d, %v; want %v", n, ballast.Size(), err, storage.ErrNoSpace)
	}
	for err = nil; err == nil; {
		_, err = ballast.Write(make([]byte, 4096))
	}
	n = ballast.Size()
	// The hash state of the ballast has no room, nor a new blob, nor more bytes of the other upload.
	if err := ballast.Flush(t.Context()); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("flush on a full disk: %v", err)
	}
	if err := ballast.Close(); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("close on a full disk: %v", err)
	}
	if _, err := up.ReadFrom(bytes.NewReader(b[200_000:])); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("write on a full disk: %v", err)
	}
	if err := up.Close(); err != nil {
		t.Errorf("close of an upload that rests in memory: %v", err)
	}
	wantBlob(t, s, digest.FromBytes(kept))

	again, err := s.Resume(t.Context(), ballast.ID())
	must(t, err)
	if again.Size() != n {
		t.Errorf("resumed at %d, want %d", again.Size(), n)
	}
	must(t, again.Cancel(t.Context()))
	resumed, err := s.Resume(t.Context(), up.ID())
	must(t, err)
	write(t, resumed, b[resumed.Size():])
	_, err = resumed.Commit(t.Context(), digest.FromBytes(b))
	must(t, err)
	wantBlob(t, s, digest.FromBytes(b))
}

// TestNoInodes: bytes have room but a new folder doesn't.
func TestNoInodes(t *testing.T) {
	s := open(t, smallDisk(t, "size=8m,nr_inodes=280"))
	up := create(t, s)
	write(t, up, pattern(1000))
	var others []*upload
	for range 100 {
		other := create(t, s)
		if _, err := other.Write([]byte("x")); err != nil {
			if !errors.Is(err, storage.ErrNoSpace) {
				t.Fatal(err)
			}
			break
		}
		others = append(others, other)
	}
	if len(others) == 100 {
		t.Fatal("the disk never ran out of files")
	}
	d := digest.FromBytes(pattern(1000))
	if _, err := up.Commit(t.Context(), d); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("commit without room for a folder: %v", err)
	}
	if _, err := s.Stat(t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("stat after a failed commit: %v", err)
	}
	for _, other := range others {
		must(t, other.Cancel(t.Context()))
	}
	_, err := up.Commit(t.Context(), d)
	must(t, err)
	wantBlob(t, s, d)
}
