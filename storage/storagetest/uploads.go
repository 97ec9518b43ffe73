package storagetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

func testInvisible(e *env) {
	b := e.bytesOf(100_000)
	d := digest.FromBytes(b)
	up := e.create(storage.Hint{Digest: d, Size: int64(len(b))})
	e.lacks(d)
	e.write(up, b)
	e.lacks(d)
	e.must("flush", up.Flush(e.ctx))
	e.lacks(d)
	if ds := e.walk(""); len(ds) != 0 {
		e.errorf("walk shows %v before any commit", ds)
	}
	e.commit(up, d, b)
	e.holds(d, b)
}

func testMismatch(e *env) {
	b := e.bytesOf(70_000)
	d, wrong := digest.FromBytes(b), digest.FromString("wrong")
	up := e.create(storage.Hint{})
	e.write(up, b[:50_000])
	for _, bad := range []digest.Digest{wrong, d, digest.SHA512.FromBytes(b), digest.FromBytes(nil)} {
		_, err := up.Commit(e.ctx, bad)
		e.want("commit of other bytes", err, storage.ErrDigestMismatch)
		e.lacks(bad)
	}
	if up.Size() != 50_000 {
		e.errorf("Size is %d after a mismatch, want 50000", up.Size())
	}
	// The upload is as it was: more bytes make it right, also after a pause.
	e.must("close", up.Close())
	up = e.resume(up.ID())
	e.write(up, b[50_000:])
	e.commit(up, d, b)
	e.holds(d, b)
	e.lacks(wrong)
}

func testSameBlobTwice(e *env) {
	for _, n := range []int{10, 3 << 20} {
		b := e.bytesOf(n)
		d := digest.FromBytes(b)
		one, two := e.create(storage.Hint{Digest: d}), e.create(storage.Hint{})
		e.write(one, b)
		e.write(two, b)
		e.must("flush", two.Flush(e.ctx))
		e.commit(one, d, b)
		e.commit(two, d, b)
		e.holds(d, b)
	}
	if ds := e.walk(""); len(ds) != 2 {
		e.errorf("walk shows %d blobs, want 2", len(ds))
	}
	if ids := e.uploads(""); len(ids) != 0 {
		e.errorf("uploads stay: %v", ids)
	}
}

func testFailingReader(e *env) {
	for _, n := range []int{0, 1, 1000, 65536, 200_000, 3<<20 + 5} {
		for _, rerr := range []error{errReading, io.ErrUnexpectedEOF} {
			b := e.bytesOf(n + 1000)
			up := e.create(storage.Hint{Size: int64(len(b))})
			got, err := up.ReadFrom(&errReader{b: b[:n], err: rerr})
			e.want("ReadFrom a reader that fails", err, rerr)
			if got != int64(n) || up.Size() != int64(n) {
				e.errorf("the reader gave %d bytes before it failed; ReadFrom says %d, Size %d", n, got, up.Size())
			}
			e.write(up, b[up.Size():])
			d := digest.FromBytes(b)
			e.commit(up, d, b)
			e.holds(d, b)
		}
	}
}

func testResume(e *env) {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		for _, n := range []int{0, 1, 5000, 900_000, 1 << 20, 2<<20 + 5} {
			b := e.bytesOf(n + 3000)
			d := alg.FromBytes(b)
			up := e.create(storage.Hint{Digest: d})
			e.write(up, b[:n])
			e.must("close", up.Close())
			e.must("second close", up.Close())
			if _, err := up.Write([]byte("x")); !errors.Is(err, storage.ErrUploadUnknown) {
				e.errorf("write after Close: error is %v, want %v", err, storage.ErrUploadUnknown)
			}
			for i := range 3 {
				up = e.resume(up.ID())
				at := n + 1000*i
				if up.Size() != int64(at) {
					e.fatalf("resumed at %d, closed at %d", up.Size(), at)
				}
				e.write(up, b[at:at+1000])
				if i < 2 {
					e.must("close", up.Close())
				}
			}
			e.commit(up, d, b)
			e.holds(d, b)
		}
	}
}

func testBusy(e *env) {
	up := e.create(storage.Hint{})
	busy := func(when string) {
		second, err := e.s.Resume(e.ctx, up.ID())
		e.want("resume "+when, err, storage.ErrUploadBusy)
		if err == nil {
			second.Close()
		}
	}
	busy("of one just created")
	e.write(up, []byte("a"))
	busy("of one that has bytes")
	e.must("flush", up.Flush(e.ctx))
	busy("of one that was flushed")
	e.must("close", up.Close())
	up = e.resume(up.ID())
	busy("of one that was resumed")
	e.must("close", up.Close())
	up = e.resume(up.ID())
	e.write(up, []byte("b"))
	e.commit(up, digest.FromString("ab"), []byte("ab"))
}

func testEnded(e *env) {
	end := map[string]func(storage.Upload) error{
		"commit": func(up storage.Upload) error { _, err := up.Commit(e.ctx, digest.FromString("ab")); return err },
		"cancel": func(up storage.Upload) error { return up.Cancel(e.ctx) },
	}
	for _, how := range []string{"commit", "cancel"} {
		for _, flushed := range []bool{false, true} {
			up := e.create(storage.Hint{})
			e.write(up, []byte("ab"))
			if flushed {
				e.must("flush", up.Flush(e.ctx))
			}
			e.must(how, end[how](up))
			_, err := e.s.Resume(e.ctx, up.ID())
			e.want("resume after "+how, err, storage.ErrUploadUnknown)
			_, err = up.Write([]byte("c"))
			e.want("write after "+how, err, storage.ErrUploadUnknown)
			_, err = up.ReadFrom(strings.NewReader("c"))
			e.want("ReadFrom after "+how, err, storage.ErrUploadUnknown)
			e.want("flush after "+how, up.Flush(e.ctx), storage.ErrUploadUnknown)
			_, err = up.Commit(e.ctx, digest.FromString("ab"))
			e.want("commit after "+how, err, storage.ErrUploadUnknown)
			e.want("cancel after "+how, up.Cancel(e.ctx), storage.ErrUploadUnknown)
			e.must("close after "+how, up.Close())
			if ids := e.uploads(""); len(ids) != 0 {
				e.errorf("uploads after %s: %v", how, ids)
			}
		}
	}
	// An upload without a byte.
	up := e.create(storage.Hint{})
	e.must("close", up.Close())
	up = e.resume(up.ID())
	e.must("cancel", up.Cancel(e.ctx))
	_, err := e.s.Resume(e.ctx, up.ID())
	e.want("resume of a cancelled empty upload", err, storage.ErrUploadUnknown)
}

func testUnknownID(e *env) {
	up := e.create(storage.Hint{})
	id := up.ID()
	if len(id) < 22 || url.PathEscape(id) != id || strings.Trim(id, ".") == "" {
		e.errorf("id %q: want 128 random bits or more in letters that a URL path takes as they are", id)
	}
	other := "a"
	if id[len(id)/2] == 'a' {
		other = "b"
	}
	changed := id[:len(id)/2] + other + id[len(id)/2+1:]
	for _, bad := range []string{
		"", ".", "..", "../x", "/", "a", changed, id[:len(id)-1], id + "a", id + "/", strings.ToUpper(id) + "~",
		strings.Repeat("a", len(id)), strings.Repeat("a", 5000), "..%2f" + id, id + "\x00", ".key", ".lock", id + ".state",
	} {
		got, err := e.s.Resume(e.ctx, bad)
		if !errors.Is(err, storage.ErrUploadUnknown) {
			e.errorf("resume of %.100q: error is %v, want %v", bad, err, storage.ErrUploadUnknown)
		}
		if err == nil {
			got.Close()
		}
	}
	seen := map[string]bool{id: true}
	for range 100 {
		u := e.create(storage.Hint{})
		if seen[u.ID()] {
			e.errorf("id %s came twice", u.ID())
		}
		seen[u.ID()] = true
		e.must("cancel", u.Cancel(e.ctx))
	}
	e.must("cancel", up.Cancel(e.ctx))
}

func testUploads(e *env) {
	sizes := map[string]int64{}
	var ids []string
	for i := range 20 {
		up := e.create(storage.Hint{})
		e.write(up, e.bytesOf(i*1000))
		sizes[up.ID()] = up.Size()
		ids = append(ids, up.ID())
		if i%2 == 0 {
			e.must("flush", up.Flush(e.ctx))
		}
		e.must("close", up.Close())
	}
	slices.Sort(ids)
	e.wantList("uploads", e.uploads(""), ids)
	for i, id := range ids {
		e.wantList("uploads after one", e.uploads(id), ids[i+1:])
	}
	for info, err := range e.s.Uploads(e.ctx, "") {
		e.must("list uploads", err)
		if info.Size != sizes[info.ID] {
			e.errorf("upload %s: Size is %d, want %d", info.ID, info.Size, sizes[info.ID])
		}
		if time.Since(info.ModTime).Abs() > 2*time.Minute {
			e.errorf("upload %s: ModTime is %v", info.ID, info.ModTime)
		}
		break
	}
	for _, id := range ids {
		up := e.resume(id)
		e.must("cancel", up.Cancel(e.ctx))
		if slices.Contains(e.uploads(""), id) {
			e.errorf("upload %s is listed after Cancel", id)
		}
	}
}

func testStaleUploads(e *env) {
	open, flushed, empty := e.create(storage.Hint{}), e.create(storage.Hint{}), e.create(storage.Hint{})
	e.write(open, []byte("a"))
	e.write(flushed, []byte("a"))
	e.must("flush", flushed.Flush(e.ctx))
	e.must("close", flushed.Close())
	e.must("close", empty.Close())
	if n, err := storage.RemoveStaleUploads(e.ctx, e.s, time.Now().Add(-time.Hour)); n != 0 || err != nil {
		e.errorf("removed %d uploads that are fresh, %v", n, err)
	}
	if n, err := storage.RemoveStaleUploads(e.ctx, e.s, time.Now().Add(time.Hour)); n != 2 || err != nil {
		e.errorf("removed %d stale uploads, %v; want 2, and the open one left alone", n, err)
	}
	e.wantList("uploads", e.uploads(""), []string{open.ID()})
	e.commit(open, digest.FromString("a"), []byte("a"))
}

// testCancelled: who gives up has changed nothing, and what was begun goes on under another context.
func testCancelled(e *env) {
	ctx, cancel := context.WithCancel(e.ctx)
	b := e.bytesOf(100_000)
	d := digest.SHA512.FromBytes(b)
	up, err := e.s.Create(ctx, storage.Hint{})
	e.must("create", err)
	cancel()
	e.write(up, b)
	e.want("flush under a context that ended", up.Flush(ctx), context.Canceled)
	_, err = up.Commit(ctx, d)
	e.want("commit under a context that ended", err, context.Canceled)
	e.lacks(d)

	if none, err := e.s.Create(ctx, storage.Hint{}); !errors.Is(err, context.Canceled) {
		e.errorf("create under a context that ended: error is %v, want %v", err, context.Canceled)
		if err == nil {
			e.must("cancel", none.Cancel(e.ctx))
		}
	}
	e.must("close", up.Close())
	e.wantList("uploads", e.uploads(""), []string{up.ID()})
	if none, err := e.s.Resume(ctx, up.ID()); !errors.Is(err, context.Canceled) {
		e.errorf("resume under a context that ended: error is %v, want %v", err, context.Canceled)
		if err == nil {
			e.must("close", none.Close())
		}
	}
	for _, err = range e.s.Uploads(ctx, "") {
	}
	e.want("list uploads under a context that ended", err, context.Canceled)
	up = e.resume(up.ID())
	e.commit(up, d, b)
	e.holds(d, b)
}

func testNoSpace(e *env) {
	filler := e.bytesOf(smallLimit / 2)
	room := e.put(filler)
	b := e.bytesOf(smallLimit * 3 / 4)
	d := digest.FromBytes(b)
	up := e.create(storage.Hint{Digest: d, Size: int64(len(b))})
	n, err := up.ReadFrom(bytes.NewReader(b))
	if err == nil {
		// Some storages notice late.
		_, err = up.Commit(e.ctx, d)
	}
	e.want("a blob that doesn't fit", err, storage.ErrNoSpace)
	e.lacks(d)
	e.holds(room, filler)
	if up.Size() != n {
		e.errorf("Size is %d after ReadFrom took %d bytes", up.Size(), n)
	}
	e.must("delete", e.s.Delete(e.ctx, room))
	e.write(up, b[up.Size():])
	e.commit(up, d, b)
	e.holds(d, b)
}
