package filestore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var locked *durable.LockedError
	if _, err := Open(dir, nil); !errors.Is(err, durable.ErrLocked) || !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("second Open: %v, want ErrLocked with pid %d", err, os.Getpid())
	}
	must(t, s.Close())
	must(t, s.Close())
	if _, err := s.Create(t.Context(), storage.Hint{}); !errors.Is(err, ErrClosed) {
		t.Errorf("create after Close: %v", err)
	}
	open(t, dir)
}

func TestPrefix(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, &Options{Prefix: "a/b"})
	must(t, err)
	defer s.Close()
	d := put(t, s, []byte("x"))
	hex := d.Encoded()
	got, err := os.ReadFile(filepath.Join(dir, "a/b/docker/registry/v2/blobs/sha256", hex[:2], hex, "data"))
	if err != nil || string(got) != "x" {
		t.Errorf("blob in the layout of distribution: %q, %v", got, err)
	}
	for _, bad := range []string{"..", "../x", "/abs", "a/../../b"} {
		if _, err := Open(dir, &Options{Prefix: bad}); err == nil || !strings.Contains(err.Error(), "prefix") {
			t.Errorf("prefix %q: %v, want an error that names it", bad, err)
		}
	}
}

// TestReaderIsFile: net/http uses sendfile with the bare file only.
func TestReaderIsFile(t *testing.T) {
	s := open(t, t.TempDir())
	r, _, err := s.Open(t.Context(), put(t, s, []byte("x")))
	must(t, err)
	defer r.Close()
	if _, ok := r.(*os.File); !ok {
		t.Errorf("Open gives a %T", r)
	}
}

// TestCreateTouchesNoDisk keeps POST cheap.
func TestCreateTouchesNoDisk(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	f := watch(s)
	for range 100 {
		must(t, create(t, s).Close())
	}
	left, err := leftovers(dir)
	if err != nil || len(left) > 0 || len(f.log) > 0 {
		t.Errorf("Create left %q and did %q (%v)", left, f.log, err)
	}
}

// TestStrangersFiles: what isn't ours is neither shown nor touched, whatever it is.
func TestStrangersFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	d := put(t, s, []byte("ours"))
	must(t, s.Close())
	shard, hex := filepath.Join(s.blobs, "sha256"), strings.Repeat("ab", 32)
	id := s.ids.newID(digest.SHA256, time.Now())
	files := []string{
		filepath.Join(s.blobs, "README"), filepath.Join(s.blobs, "md5", "x"), filepath.Join(shard, "zz", "x"),
		filepath.Join(shard, "ab", "data"), filepath.Join(shard, "ab", hex[:63], "data"), filepath.Join(shard, "ab", strings.ToUpper(hex),
			"data"),
		filepath.Join(shard, "00", hex, "data"), // right name, wrong shard
		filepath.Join(shard, "ab", hex[:62]+"00", "other"),
		filepath.Join(shard, "ab", hex[:62]+"01"), // a file in the place of a blob's folder
		filepath.Join(shard, "ab", hex[:62]+"02", "data", "inside"),
		filepath.Join(s.uploads, "notes.txt"), filepath.Join(s.uploads, "x.state"), filepath.Join(s.uploads, id, "inside"),
	}
	for _, f := range files {
		must(t, os.MkdirAll(filepath.Dir(f), 0o750))
		must(t, os.WriteFile(f, []byte("stranger"), 0o640))
	}
	// What a crash of another program leaves: an empty file.
	empty := digest.NewDigestFromEncoded(digest.SHA256, hex[:62]+"03")
	must(t, os.MkdirAll(filepath.Dir(s.blob(empty)), 0o750))
	must(t, os.WriteFile(s.blob(empty), nil, 0o640))

	s = open(t, dir)
	var seen []digest.Digest
	for info, err := range s.Walk(t.Context(), "") {
		must(t, err)
		seen = append(seen, info.Digest)
	}
	if len(seen) != 1 || seen[0] != d {
		t.Errorf("walk shows %v, want %v alone", seen, d)
	}
	for info, err := range s.Uploads(t.Context(), "") {
		t.Errorf("uploads shows %v, %v", info, err)
	}
	for _, name := range []string{hex, hex[:62] + "00", hex[:62] + "01", hex[:62] + "02", hex[:62] + "03"} {
		if _, err := s.Stat(t.Context(), digest.NewDigestFromEncoded(digest.SHA256, name)); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("stat of %s: %v, want ErrNotFound", name, err)
		}
	}
	if _, err := s.Resume(t.Context(), id); err == nil {
		t.Error("a folder was resumed as an upload")
	}
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			t.Errorf("somebody else's file is gone: %v", err)
		}
	}
}

// TestEmptyDebrisIsReplaced: the empty file of a crash doesn't keep the right bytes out.
func TestEmptyDebrisIsReplaced(t *testing.T) {
	s := open(t, t.TempDir())
	b := pattern(5000)
	d := digest.FromBytes(b)
	must(t, os.MkdirAll(s.blobDir(d), 0o750))
	must(t, os.WriteFile(s.blob(d), nil, 0o640))
	put(t, s, b)
	wantBlob(t, s, d)
}

// TestFailedStepsReportAndRecover has each step of a Commit fail once: no blob is acknowledged, and the next try works.
func TestFailedStepsReportAndRecover(t *testing.T) {
	for _, op := range []string{"write", "fsync", "mkdir", "rename", "fsyncdir"} {
		for _, fault := range []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT} {
			t.Run(op+" "+fault.Error(), func(t *testing.T) {
				s := open(t, t.TempDir())
				b := pattern(200_000)
				d := digest.FromBytes(b)
				fired := 0
				s.disk.step = func(o, path string) error {
					if o == op && fired == 0 {
						fired++
						return &fs.PathError{Op: o, Path: path, Err: fault}
					}
					return nil
				}
				up := create(t, s)
				_, err := up.ReadFrom(bytes.NewReader(b))
				if err == nil {
					_, err = up.Commit(t.Context(), d)
				}
				if !errors.Is(err, fault) || errors.Is(err, storage.ErrNoSpace) != (fault != syscall.EIO) {
					t.Errorf("error is %v; want %v, and ErrNoSpace when the disk is full", err, fault)
				}
				if fired != 1 {
					t.Fatal("the fault did not fire")
				}
				if op != "fsyncdir" {
					if _, err := s.Stat(t.Context(), d); !errors.Is(err, storage.ErrNotFound) {
						t.Errorf("stat after a failed %s: %v", op, err)
					}
				}
				recoverUpload(t, s, up, op, b)
				wantBlob(t, s, d)
			})
		}
	}
}

// recoverUpload goes on as the contract says: in place, or by Resume after a failed fsync.
func recoverUpload(t *testing.T, s *Store, up storage.Upload, op string, b []byte) {
	t.Helper()
	if op == "fsync" {
		if _, err := up.Commit(t.Context(), digest.FromBytes(b)); !errors.Is(err, errSync) {
			t.Errorf("second commit after a failed fsync: %v, want the failure again", err)
		}
		if err := up.Close(); !errors.Is(err, errSync) {
			t.Errorf("close after a failed fsync: %v", err)
		}
		var err error
		up, err = s.Resume(t.Context(), up.ID())
		must(t, err)
		if up.Size() != 0 {
			t.Errorf("resumed at %d; nothing was ever durable", up.Size())
		}
	}
	write(t, up, b[up.Size():])
	_, err := up.Commit(t.Context(), digest.FromBytes(b))
	must(t, err)
}

// TestShortWrite: the file took a part of a chunk, as a disk does that is nearly full.
func TestShortWrite(t *testing.T) {
	s := open(t, t.TempDir())
	b := pattern(5 << 20)
	up := create(t, s)
	writes := 0
	s.disk.step = func(op, path string) error {
		if op != "write" {
			return nil
		}
		if writes++; writes == 3 {
			// The bytes that did get there lie past Size.
			must(t, appendTo(path, pattern(777)))
			return syscall.ENOSPC
		}
		return nil
	}
	n, err := up.ReadFrom(bytes.NewReader(b))
	if !errors.Is(err, storage.ErrNoSpace) || n != up.Size() || n == 0 {
		t.Fatalf("took %d, Size %d, %v", n, up.Size(), err)
	}
	half := digest.FromBytes(b[:n])
	if _, err := up.Commit(t.Context(), digest.FromBytes(b)); !errors.Is(err, storage.ErrDigestMismatch) {
		t.Errorf("commit: %v", err)
	}
	if _, err := up.Commit(t.Context(), half); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, half)
}

func appendTo(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// TestSavesBesideWriting: a large upload loses no more than two save intervals to a crash, without any Flush.
func TestSavesBesideWriting(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	up := create(t, s)
	const size = saveEvery + 20<<20
	r := &gate{b: make([]byte, 1<<20), n: size >> 20}
	_, err := up.ReadFrom(r)
	must(t, err)
	up.settle()
	if up.saved < saveEvery || up.saved > size {
		t.Fatalf("state saved at %d", up.saved)
	}
	saved := up.saved
	crash(s)
	s = open(t, dir)
	got, err := s.Resume(t.Context(), up.ID())
	must(t, err)
	if got.Size() != saved {
		t.Errorf("resumed at %d, saved was %d", got.Size(), saved)
	}
	must(t, got.Cancel(t.Context()))
}

// gate gives a block n times.
type gate struct {
	b []byte
	n int
}

func (g *gate) Read(p []byte) (int, error) {
	if g.n == 0 {
		return 0, io.EOF
	}
	g.n--
	return copy(p, g.b), nil
}

// TestFullTable: uploads that find no room in memory go to disk and are resumed all the same.
func TestFullTable(t *testing.T) {
	s := open(t, t.TempDir())
	s.table.max = 2
	var ids []string
	for i := range 6 {
		up := create(t, s)
		write(t, up, pattern(i/2*1000))
		ids = append(ids, up.ID())
		must(t, up.Close())
	}
	if n := len(s.table.resting()); n != 2 {
		t.Errorf("%d uploads rest in memory, want 2", n)
	}
	for i, id := range ids {
		up, err := s.Resume(t.Context(), id)
		must(t, err)
		if up.Size() != int64(i/2*1000) {
			t.Errorf("upload %d resumed at %d", i, up.Size())
		}
		must(t, up.Cancel(t.Context()))
	}
}

// TestCloseKeepsRestingUploads: a clean stop loses no byte of a small upload.
func TestCloseKeepsRestingUploads(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	up := create(t, s)
	write(t, up, pattern(1000))
	must(t, up.Close())
	must(t, s.Close())
	s = open(t, dir)
	got, err := s.Resume(t.Context(), up.ID())
	must(t, err)
	if got.Size() != 1000 {
		t.Errorf("resumed at %d, want 1000", got.Size())
	}
	must(t, got.Cancel(t.Context()))
}

// TestEmptyUploadExpires: an id without bytes isn't good for ever.
func TestEmptyUploadExpires(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id := create(t, s).ID()
	crash(s)
	s, err := Open(dir, &Options{Clock: func() time.Time { return time.Now().Add(25 * time.Hour) }})
	must(t, err)
	defer s.Close()
	if _, err := s.Resume(t.Context(), id); !errors.Is(err, storage.ErrUploadUnknown) {
		t.Errorf("resume after 25 hours: %v", err)
	}
}

// TestSpoiltKey names the file and the remedy.
func TestSpoiltKey(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(t, s.Close())
	must(t, os.WriteFile(filepath.Join(s.uploads, keyName), []byte("short"), 0o600))
	if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), keyName) {
		t.Errorf("error is %v", err)
	}
	must(t, os.Remove(filepath.Join(s.uploads, keyName)))
	open(t, dir)
}

// TestManyPipelines: more large uploads at once than there are large buffers.
func TestManyPipelines(t *testing.T) {
	s := open(t, t.TempDir())
	b := pattern(300_000)
	var wg sync.WaitGroup
	release := make(chan struct{})
	for range 3 * maxPipelines {
		up := create(t, s)
		wg.Go(func() {
			r := &slowReader{b: b, release: release}
			if n, err := up.ReadFrom(r); n != int64(len(b)) || err != nil {
				t.Errorf("took %d bytes, %v", n, err)
			}
			if _, err := up.Commit(context.Background(), digest.FromBytes(b)); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	wg.Wait()
	if n := s.pool.pipelines.Load(); n != 0 {
		t.Errorf("%d pipelines are still counted", n)
	}
	wantBlob(t, s, digest.FromBytes(b))
}

// slowReader waits in the middle, so that many readers are there at once.
type slowReader struct {
	b       []byte
	release chan struct{}
}

func (r *slowReader) Read(p []byte) (int, error) {
	if len(r.b) < 150_000 {
		<-r.release
	}
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b[:min(len(r.b), 10_000)])
	r.b = r.b[n:]
	return n, nil
}
