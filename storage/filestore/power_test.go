package filestore

import (
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// forgetful is a disk that keeps after a power cut only what was fsynced: bytes by an fsync of the file after the last
// write, a name by an fsync of its folder after it was made.
type forgetful struct {
	mu    sync.Mutex
	clean map[string]bool // the file's bytes are durable
	named map[string]bool // the entry in its folder is durable
	log   []string
}

func watch(s *Store) *forgetful {
	f := &forgetful{clean: map[string]bool{}, named: map[string]bool{}}
	s.disk.step = f.step
	return f
}

func (f *forgetful) step(op, path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, op+" "+path)
	switch op {
	case "write":
		f.clean[path] = false
		if _, known := f.named[path]; !known {
			f.named[path] = false
		}
	case "fsync":
		f.clean[path] = true
	case "mkdir":
		f.named[path] = false
	case "rename":
		from, to, _ := strings.Cut(path, " ")
		f.clean[to], f.named[to] = f.clean[from], false
		delete(f.clean, from)
		delete(f.named, from)
	case "fsyncdir":
		for p := range f.named {
			if filepath.Dir(p) == path {
				f.named[p] = true
			}
		}
	}
	return nil
}

// survives checks that a power cut now would leave the file with its bytes under its name.
func (f *forgetful) survives(t *testing.T, what, path string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if clean, known := f.clean[path]; !known || !clean {
		t.Errorf("%s: the bytes of %s are not durable\n%s", what, path, strings.Join(f.log, "\n"))
	}
	if !f.named[path] {
		t.Errorf("%s: the name of %s is not durable\n%s", what, path, strings.Join(f.log, "\n"))
	}
}

// before checks the order of the last two steps that match.
func (f *forgetful) before(t *testing.T, first, second string) {
	t.Helper()
	a, b := f.last(first), f.last(second)
	if a < 0 || b < 0 || a > b {
		t.Errorf("want %q (step %d) before %q (step %d)\n%s", first, a, second, b, strings.Join(f.log, "\n"))
	}
}

func (f *forgetful) last(step string) int {
	at := -1
	for i, l := range f.log {
		if l == step || strings.HasPrefix(l, step+" ") {
			at = i
		}
	}
	return at
}

// TestAcknowledgedBlobSurvivesPowerCut prevents a 201 on a blob that a power cut takes back.
func TestAcknowledgedBlobSurvivesPowerCut(t *testing.T) {
	for _, c := range []struct {
		name string
		size int
		how  func(t *testing.T, s *Store, up storage.Upload) storage.Upload
	}{
		{"empty", 0, nil},
		{"small", 4096, nil},
		{"large", 3 << 20, nil},
		{"flushed", 5000, func(t *testing.T, _ *Store, up storage.Upload) storage.Upload {
			must(t, up.Flush(t.Context()))
			return up
		}},
		{"small and resumed", 5000, closeAndResume},
		{"large and resumed", 2 << 20, closeAndResume},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			f := watch(s)
			b := pattern(c.size)
			d := digest.FromBytes(b)
			var up storage.Upload = create(t, s)
			write(t, up, b)
			if c.how != nil {
				up = c.how(t, s, up)
			}
			temp := s.upload(up.ID())
			if _, err := up.Commit(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if c.size > 0 {
				f.survives(t, "after Commit", s.blob(d))
				f.before(t, "fsync "+temp, "rename "+temp)
			}
			f.before(t, "rename "+temp, "fsyncdir "+s.blobDir(d))
			f.before(t, "mkdir "+s.blobDir(d), "fsyncdir "+filepath.Dir(s.blobDir(d)))
		})
	}
}

// TestSecondCommitIsDurableToo prevents an answer that relies on another commit's fsync still to come.
func TestSecondCommitIsDurableToo(t *testing.T) {
	s := open(t, t.TempDir())
	b := pattern(1000)
	d := digest.FromBytes(b)
	put(t, s, b)
	f := watch(s)
	put(t, s, b)
	if f.last("fsyncdir "+s.blobDir(d)) < 0 || f.last("fsyncdir "+filepath.Dir(s.blobDir(d))) < 0 {
		t.Errorf("a Commit of a blob that is there fsyncs no folder:\n%s", strings.Join(f.log, "\n"))
	}
	if f.last("rename") >= 0 {
		t.Error("a Commit of a blob that is there replaced it")
	}
}

// TestFlushSurvivesPowerCut prevents a state that speaks of bytes which a power cut takes back.
func TestFlushSurvivesPowerCut(t *testing.T) {
	s := open(t, t.TempDir())
	f := watch(s)
	up := create(t, s)
	for range 3 {
		write(t, up, pattern(100_000))
		must(t, up.Flush(t.Context()))
		data, state := s.upload(up.ID()), s.state(up.ID())
		f.survives(t, "bytes after Flush", data)
		f.survives(t, "state after Flush", state)
		f.before(t, "write "+data, "fsync "+data)
		f.before(t, "fsync "+data, "write "+state)
	}
}

func closeAndResume(t *testing.T, s *Store, up storage.Upload) storage.Upload {
	t.Helper()
	must(t, up.Close())
	up, err := s.Resume(t.Context(), up.ID())
	must(t, err)
	return up
}
