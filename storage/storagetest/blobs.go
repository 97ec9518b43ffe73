package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

const smallLimit = 4 << 20

var cases = []testCase{
	{name: "Empty", run: testEmpty},
	{name: "Sizes", run: testSizes},
	{name: "Algorithms", run: testAlgorithms},
	{name: "NotFound", run: testNotFound},
	{name: "BadDigest", run: testBadDigest},
	{name: "Hint", run: testHint},
	{name: "Seek", run: testSeek},
	{name: "ModTime", run: testModTime},
	{name: "Link", run: testLink},
	{name: "Delete", run: testDelete},
	{name: "Walk", run: testWalk},
	{name: "Invisible", run: testInvisible},
	{name: "Mismatch", run: testMismatch},
	{name: "SameBlobTwice", run: testSameBlobTwice},
	{name: "FailingReader", run: testFailingReader},
	{name: "Resume", run: testResume},
	{name: "Busy", run: testBusy},
	{name: "Ended", run: testEnded},
	{name: "UnknownID", run: testUnknownID},
	{name: "Uploads", run: testUploads},
	{name: "StaleUploads", run: testStaleUploads},
	{name: "Cancelled", run: testCancelled},
	{name: "CrashEmpty", run: testCrashEmpty, needs: "crash"},
	{name: "CrashFlushed", run: testCrashFlushed, needs: "crash"},
	{name: "CrashUnflushed", run: testCrashUnflushed, needs: "crash"},
	{name: "CrashCommitted", run: testCrashCommitted, needs: "crash"},
	{name: "NoSpace", run: testNoSpace, needs: "small"},
	{name: "Concurrent", run: testConcurrent},
	{name: "ConcurrentSame", run: testConcurrentSame},
	{name: "Random", run: testRandom},
	{name: "RandomCrash", run: testRandomCrash, needs: "crash"},
	{name: "Faults/Retry", run: testFaultsRetry},
	{name: "Faults/Commit", run: testFaultsCommit},
	{name: "Faults/Write", run: testFaultsWrite},
	{name: "Faults/Read", run: testFaultsRead},
}

func testEmpty(e *env) {
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		d := a.FromBytes(nil)
		e.lacks(d)
		up := e.create(storage.Hint{Digest: d})
		e.commit(up, d, nil)
		e.holds(d, nil)
		// Without a hint, through a reader that has nothing.
		up = e.create(storage.Hint{})
		e.write(up, nil)
		e.commit(up, d, nil)
		e.holds(d, nil)
	}
}

func testSizes(e *env) {
	for _, n := range []int{1, 511, 4096, 65535, 65536, 65537, 1 << 20, 1<<20 + 65536, 5<<20 + 17} {
		b := e.bytesOf(n)
		e.holds(e.put(b), b)
		// The same length through Write, in odd pieces.
		b = e.bytesOf(n)
		up := e.create(storage.Hint{})
		for rest := b; len(rest) > 0; {
			k := min(len(rest), 1+e.rand.IntN(100_000))
			if got, err := up.Write(rest[:k]); got != k || err != nil {
				e.fatalf("Write of %d bytes: %d, %w", k, got, err)
			}
			rest = rest[k:]
		}
		d := digest.FromBytes(b)
		e.commit(up, d, b)
		e.holds(d, b)
	}
}

func testAlgorithms(e *env) {
	const sha256, sha512 = digest.SHA256, digest.SHA512
	for _, c := range []struct{ hint, commit digest.Algorithm }{
		{"", sha256}, {"", sha512}, {sha256, sha256}, {sha512, sha512}, {sha256, sha512}, {sha512, sha256},
	} {
		b := e.bytesOf(2<<20 + e.rand.IntN(100))
		var h storage.Hint
		if c.hint != "" {
			h.Digest = c.hint.FromBytes(b)
		}
		up := e.create(h)
		e.write(up, b[:1000])
		e.write(up, b[1000:])
		d := c.commit.FromBytes(b)
		_, err := up.Commit(e.ctx, c.commit.FromString("something else"))
		e.want(fmt.Sprintf("hint %q, commit %s of other bytes", c.hint, c.commit), err, storage.ErrDigestMismatch)
		e.commit(up, d, b)
		e.holds(d, b)
	}
}

func testNotFound(e *env) {
	d := digest.FromString("never stored")
	e.lacks(d)
	e.want("delete of a blob that isn't there", e.s.Delete(e.ctx, d), storage.ErrNotFound)
}

// badDigests are refused everywhere.
func badDigests() []digest.Digest {
	hex := strings.Repeat("ab", 32)
	return []digest.Digest{
		"", ":", "sha256", "sha256:", digest.Digest(hex), digest.Digest("sha256:" + hex[1:]), digest.Digest("sha256:" + hex + "a"),
		digest.Digest("sha256:" + strings.ToUpper(hex)), digest.Digest("SHA256:" + hex), digest.Digest("sha384:" + hex + hex[:32]),
		digest.Digest("sha512:" + hex), digest.Digest("md5:" + hex[:32]), digest.Digest("sha256:../" + hex[3:]),
		digest.Digest("sha256:" + hex[:63] + "/"), digest.Digest("sha256:" + hex[:63] + "\x00"), digest.Digest("../sha256:" + hex),
		digest.Digest("sha256:" + hex[:63] + "g"), digest.Digest(" sha256:" + hex), digest.Digest("sha256:" + hex + ":" + hex),
	}
}

func testBadDigest(e *env) {
	up := e.create(storage.Hint{})
	e.write(up, []byte("x"))
	for _, d := range badDigests() {
		_, err := e.s.Stat(e.ctx, d)
		e.want(fmt.Sprintf("stat %q", d), err, storage.ErrDigestInvalid)
		_, _, err = e.s.Open(e.ctx, d)
		e.want(fmt.Sprintf("open %q", d), err, storage.ErrDigestInvalid)
		_, err = e.s.Link(e.ctx, d, time.Minute)
		e.want(fmt.Sprintf("link %q", d), err, storage.ErrDigestInvalid)
		e.want(fmt.Sprintf("delete %q", d), e.s.Delete(e.ctx, d), storage.ErrDigestInvalid)
		_, err = up.Commit(e.ctx, d)
		e.want(fmt.Sprintf("commit %q", d), err, storage.ErrDigestInvalid)
		if d == "" {
			continue
		}
		if bad, err := e.s.Create(e.ctx, storage.Hint{Digest: d}); !errors.Is(err, storage.ErrDigestInvalid) {
			e.errorf("create with hint %q: error is %v, want %v", d, err, storage.ErrDigestInvalid)
			if err == nil {
				bad.Cancel(e.ctx)
			}
		}
	}
	e.commit(up, digest.FromString("x"), []byte("x"))
}

func testHint(e *env) {
	b := e.bytesOf(200_000)
	d := digest.FromBytes(b)
	for _, h := range []storage.Hint{
		{Digest: digest.FromString("other")}, {Size: 1}, {Size: 1 << 50}, {Digest: d, Size: -1}, {Digest: d, Size: 100_000},
	} {
		up := e.create(h)
		e.write(up, b)
		e.commit(up, d, b)
		e.holds(d, b)
		e.must("delete", e.s.Delete(e.ctx, d))
	}
}

func testSeek(e *env) {
	b := e.bytesOf(300_000)
	d := e.put(b)
	r, _, err := e.s.Open(e.ctx, d)
	e.must("open", err)
	defer r.Close()
	if n, err := r.Seek(0, io.SeekEnd); n != int64(len(b)) || err != nil {
		e.errorf("seek to the end: %d, %v; want %d", n, err, len(b))
	}
	for range 20 {
		at := e.rand.IntN(len(b))
		n := min(len(b)-at, 1+e.rand.IntN(5000))
		if _, err := r.Seek(int64(at), io.SeekStart); err != nil {
			e.fatalf("seek: %w", err)
		}
		got := make([]byte, n)
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, b[at:at+n]) {
			e.errorf("read of %d bytes at %d after a seek is wrong (%v)", n, at, err)
		}
	}
}

func testModTime(e *env) {
	before := time.Now()
	d := e.put([]byte("when"))
	info, err := e.s.Stat(e.ctx, d)
	e.must("stat", err)
	// Storages have coarse clocks, and clocks of their own.
	if off := info.ModTime.Sub(before); off < -2*time.Minute || off > 2*time.Minute {
		e.errorf("ModTime is %v, %v away from when the blob was stored", info.ModTime, off)
	}
}

func testLink(e *env) {
	d := e.put([]byte("link"))
	if link, err := e.s.Link(e.ctx, d, time.Minute); err == nil && link == "" || err != nil && !errors.Is(err, storage.ErrNoLink) {
		e.errorf("link: %q, %v; want an address or ErrNoLink", link, err)
	}
	_, err := e.s.Link(e.ctx, digest.FromString("never stored"), time.Minute)
	if !errors.Is(err, storage.ErrNoLink) && !errors.Is(err, storage.ErrNotFound) {
		e.errorf("link of a blob that isn't there: error is %v, want ErrNotFound or ErrNoLink", err)
	}
	up := e.create(storage.Hint{})
	if req, err := up.PartLink(e.ctx, 1, 100); err == nil && req == nil || err != nil && !errors.Is(err, storage.ErrNoLink) {
		e.errorf("part link: %v, %v; want a request or ErrNoLink", req, err)
	}
	e.must("cancel", up.Cancel(e.ctx))
}

func testDelete(e *env) {
	b := e.bytesOf(2 << 20)
	d := e.put(b)
	other := e.put([]byte("stays"))
	r, _, err := e.s.Open(e.ctx, d)
	e.must("open", err)
	first := make([]byte, 1000)
	if _, err := io.ReadFull(r, first); err != nil {
		e.fatalf("read: %w", err)
	}
	e.must("delete", e.s.Delete(e.ctx, d))
	e.lacks(d)
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(first, rest...), b) {
		e.errorf("a reader that was open lost its bytes on delete: %d read, %v", len(rest), err)
	}
	r.Close()
	e.want("second delete", e.s.Delete(e.ctx, d), storage.ErrNotFound)
	e.holds(other, []byte("stays"))
	if again := e.put(b); again == d {
		e.holds(d, b)
	}
}

func testWalk(e *env) {
	want := make([]digest.Digest, 0, 60)
	for i := range 50 {
		want = append(want, e.put(fmt.Appendf(nil, "blob %d", i)))
	}
	for i := range 10 {
		b := fmt.Appendf(nil, "long %d", i)
		d := digest.SHA512.FromBytes(b)
		up := e.create(storage.Hint{Digest: d})
		e.write(up, b)
		e.commit(up, d, b)
		want = append(want, d)
	}
	up := e.create(storage.Hint{})
	e.write(up, []byte("not a blob yet"))
	e.must("flush", up.Flush(e.ctx))
	slices.Sort(want)
	e.wantList("walk", strs(e.walk("")), strs(want))
	for i, d := range want {
		e.wantList("walk after one that is there", strs(e.walk(d)), strs(want[i+1:]))
	}
	for _, after := range []digest.Digest{"sha256:", "sha256:8", "sha256:80~", "sha384:", "sha512:", "sha512:ff", "t"} {
		i, _ := slices.BinarySearch(want, after)
		e.wantList("walk after "+string(after), strs(e.walk(after)), strs(want[i:]))
	}
	n := 0
	for info, err := range e.s.Walk(e.ctx, "") {
		e.must("walk", err)
		if st, err := e.s.Stat(e.ctx, info.Digest); err != nil || st != info {
			e.errorf("walk says %+v, stat says %+v, %v", info, st, err)
		}
		if n++; n == 5 {
			break
		}
	}
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	var err error
	for _, err = range e.s.Walk(ctx, "") {
	}
	e.want("walk under a context that ended", err, context.Canceled)
	ctx, cancel = context.WithCancel(e.ctx)
	defer cancel()
	n = 0
	for _, err = range e.s.Walk(ctx, "") {
		cancel()
		n++
	}
	e.want("walk whose context ends on the way", err, context.Canceled)
	if n != 2 {
		e.errorf("a walk whose context ends at the first item yields %d times, want the item and the error", n)
	}
	e.must("cancel", up.Cancel(e.ctx))
}
