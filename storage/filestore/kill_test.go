package filestore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// The child of these tests writes blobs in a loop, says what it was promised, and is killed. Each line is one promise:
//
//	blob DIGEST            a Commit returned
//	upload ID SEED OFFSET  a Flush returned: the first OFFSET bytes of the stream SEED are durable
//	ending ID              the upload is about to be committed; from here on it may be gone
const (
	killDirEnv   = "ATCR_TEST_KILL_DIR"
	killSeedEnv  = "ATCR_TEST_KILL_SEED"
	killPointEnv = "ATCR_TEST_KILL_POINT" // "POINT N": the child kills itself there
)

// stream is the endless content number seed.
func stream(seed uint64) io.Reader {
	return rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), 1})
}

func TestKilledChild(t *testing.T) {
	dir := os.Getenv(killDirEnv)
	if dir == "" {
		t.Skip("only as the child of the kill tests")
	}
	seed, _ := strconv.ParseUint(os.Getenv(killSeedEnv), 10, 64)
	s, err := Open(dir, nil)
	must(t, err)
	if name, nth, ok := strings.Cut(os.Getenv(killPointEnv), " "); ok {
		killAtSeam(s, crashPoint(name), nth)
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	say("start")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for {
				if err := pushOne(s, r, say); err != nil {
					say("error %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func killAtSeam(s *Store, name crashPoint, nth string) {
	left, _ := strconv.Atoi(nth)
	var mu sync.Mutex
	s.disk.reached = func(p crashPoint) {
		mu.Lock()
		defer mu.Unlock()
		if p != name {
			return
		}
		if left--; left <= 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

// pushOne stores one blob, with or without pauses.
func pushOne(s *Store, r *rand.Rand, say func(string, ...any)) error {
	ctx := context.Background()
	seed, size := uint64(r.Uint32()), int64(r.IntN(20_000))
	if r.IntN(6) == 0 {
		size = int64(1<<20 + r.IntN(1<<20))
	}
	src, h := stream(seed), digest.SHA256.Digester()
	src = io.TeeReader(io.LimitReader(src, size), h.Hash())
	up, err := s.Create(ctx, storage.Hint{})
	if err != nil {
		return err
	}
	for range r.IntN(3) {
		if _, err := up.ReadFrom(io.LimitReader(src, r.Int64N(size+1))); err != nil {
			return err
		}
		if err := up.Flush(ctx); err != nil {
			return err
		}
		say("upload %s %d %d", up.ID(), seed, up.Size())
		if err := up.Close(); err != nil {
			return err
		}
		if up, err = s.Resume(ctx, up.ID()); err != nil {
			return err
		}
	}
	if _, err := up.ReadFrom(src); err != nil {
		return err
	}
	say("ending %s", up.ID())
	if _, err := up.Commit(ctx, h.Digest()); err != nil {
		return err
	}
	say("blob %s", h.Digest())
	return nil
}

// promises are what children said.
type promises struct {
	blobs   []digest.Digest
	uploads map[string]promisedUpload
}

type promisedUpload struct {
	seed   uint64
	offset int64
	ending bool
}

func (p *promises) read(t *testing.T, line string) {
	t.Helper()
	f := strings.Fields(line)
	switch {
	case len(f) == 2 && f[0] == "blob":
		p.blobs = append(p.blobs, digest.Digest(f[1]))
	case len(f) == 4 && f[0] == "upload":
		seed, _ := strconv.ParseUint(f[2], 10, 64)
		offset, _ := strconv.ParseInt(f[3], 10, 64)
		p.uploads[f[1]] = promisedUpload{seed: seed, offset: offset}
	case len(f) == 2 && f[0] == "ending":
		u := p.uploads[f[1]]
		u.ending = true
		p.uploads[f[1]] = u
	case strings.HasPrefix(line, "error"), strings.HasPrefix(line, "---"), strings.Contains(line, "FAIL"):
		t.Errorf("the child says: %s", line)
	}
}

// killAfter is when a child is killed: so many acknowledged blobs and a pause after it has started. Without a pause it kills itself.
type killAfter struct {
	blobs int
	pause time.Duration
}

// runKilled runs a child until it dies and notes what it was promised.
func runKilled(t *testing.T, p *promises, dir string, seed uint64, after killAfter, point string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledChild$", "-test.v")
	cmd.Env = append(os.Environ(), killDirEnv+"="+dir, fmt.Sprintf("%s=%d", killSeedEnv, seed), killPointEnv+"="+point)
	out, err := cmd.StdoutPipe()
	must(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	lines, started, before, timed := bufio.NewScanner(out), false, len(p.blobs), false
	for lines.Scan() {
		p.read(t, lines.Text())
		started = started || lines.Text() == "start"
		if started && after.pause > 0 && !timed && len(p.blobs)-before >= after.blobs {
			timed = true
			timer := time.AfterFunc(after.pause, func() { cmd.Process.Kill() })
			defer timer.Stop()
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended with %v instead of a kill: the fault did not fire\n%s", err, stderr.Bytes())
	}
}

// settle opens the folder as the next process would and holds it to what was promised.
func (p *promises) settle(t *testing.T, dir string) {
	t.Helper()
	s := open(t, dir)
	for _, d := range p.blobs {
		wantBlob(t, s, d)
	}
	for info, err := range s.Walk(t.Context(), "") {
		must(t, err)
		wantBlob(t, s, info.Digest)
	}
	for id, u := range p.uploads {
		up, err := s.Resume(t.Context(), id)
		if errors.Is(err, storage.ErrUploadUnknown) && u.ending {
			continue
		}
		if err != nil {
			t.Errorf("resume after the kill: %v", err)
			continue
		}
		if up.Size() < u.offset && !u.ending {
			t.Errorf("upload resumes at %d, promised was %d", up.Size(), u.offset)
		}
		finish(t, s, up, u.seed)
	}
	// Uploads that nothing was promised for don't stop anyone either.
	if _, err := storage.RemoveStaleUploads(t.Context(), s, time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	left, err := readNames(s.uploads)
	must(t, err)
	if strings.Join(left, " ") != keyName+" .lock" {
		t.Errorf("after all uploads ended the folder holds %q", left)
	}
	must(t, s.Close())
	clear(p.uploads)
}

// finish writes more of the stream behind what the upload has and commits it: its bytes and its hash agree.
func finish(t *testing.T, s *Store, up storage.Upload, seed uint64) {
	t.Helper()
	total := up.Size() + 1000
	h := digest.SHA256.Digester()
	src := io.TeeReader(stream(seed), h.Hash())
	if _, err := io.CopyN(io.Discard, src, up.Size()); err != nil {
		t.Fatal(err)
	}
	if _, err := up.ReadFrom(io.LimitReader(src, total-up.Size())); err != nil {
		t.Fatal(err)
	}
	if _, err := up.Commit(t.Context(), h.Digest()); err != nil {
		t.Errorf("an upload that was killed can't be finished: %v", err)
		up.Cancel(t.Context())
		return
	}
	wantBlob(t, s, h.Digest())
}

func newPromises() *promises { return &promises{uploads: map[string]promisedUpload{}} }

// TestKillAtRandom prevents that a kill -9 loses an acknowledged blob or needs repair by hand.
func TestKillAtRandom(t *testing.T) {
	killAtRandom(t, 6)
}

func killAtRandom(t *testing.T, times int) {
	dir, p := t.TempDir(), newPromises()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range times {
		// Some blobs first, however slow the machine is; then at any moment.
		runKilled(t, p, dir, seed+uint64(i), killAfter{blobs: i % 4, pause: time.Duration(1+r.IntN(100)) * time.Millisecond}, "")
		p.settle(t, dir)
		if t.Failed() {
			t.Fatalf("after kill %d", i+1)
		}
	}
	t.Logf("%d kills, %d blobs were acknowledged and all verify", times, len(p.blobs))
	if len(p.blobs) < times {
		t.Errorf("only %d blobs were acknowledged in %d runs: nothing was tested", len(p.blobs), times)
	}
}

// TestKillAtCrashPoints kills at each named crash point, the first time and later.
func TestKillAtCrashPoints(t *testing.T) {
	dir, p := t.TempDir(), newPromises()
	for i, point := range crashPoints {
		for _, nth := range []int{1, 9} {
			runKilled(t, p, dir, uint64(1000+10*i+nth), killAfter{}, fmt.Sprintf("%s %d", point, nth))
			p.settle(t, dir)
			if t.Failed() {
				t.Fatalf("after a kill at %s, hit %d", point, nth)
			}
		}
	}
}
