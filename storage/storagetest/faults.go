package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// withFaults runs part of a case with the store wrapped, and asserts that each fault happened.
func (e *env) withFaults(what string, retry bool, faults []storage.Fault, run func()) {
	plain := e.s
	f := storage.NewFaults(plain, faults...)
	e.s = f
	if retry {
		e.s = storage.WithRetry(f, &storage.RetryOptions{
			Sleep: func(context.Context, time.Duration) error { return nil },
			Log:   slog.New(slog.DiscardHandler), // its warnings are of faults that are meant, between the lines of what fails
		})
	}
	defer func() {
		e.s = plain
		for _, fault := range f.Unfired() {
			e.errorf("%s: the fault %+v never happened", what, fault)
		}
	}()
	run()
}

// testFaultsRetry: a store that fails once in each call, before or after doing it, is a good store behind WithRetry.
func testFaultsRetry(e *env) {
	for _, op := range []storage.Op{
		storage.OpStat, storage.OpOpen, storage.OpCreate, storage.OpResume, storage.OpUploads, storage.OpDelete,
		storage.OpWalk, storage.OpFlush, storage.OpCommit, storage.OpCancel,
	} {
		for _, done := range []bool{false, true} {
			what := fmt.Sprintf("%s, done %v", op, done)
			e.withFaults(what, true, []storage.Fault{{Op: op, Done: done, Times: 2}}, func() { e.wholeLife(what) })
		}
	}
	e.withFaults("too often", true, []storage.Fault{{Op: storage.OpStat, Times: 4}}, func() {
		_, err := e.s.Stat(e.ctx, digest.FromString("x"))
		e.want("stat that never succeeds", err, storage.ErrInjected)
	})
}

// wholeLife uses every call.
func (e *env) wholeLife(what string) {
	b := e.bytesOf(100_000)
	d := digest.FromBytes(b)
	up := e.create(storage.Hint{Digest: d})
	e.write(up, b[:50_000])
	e.must(what+": flush", up.Flush(e.ctx))
	e.must(what+": close", up.Close())
	up = e.resume(up.ID())
	e.write(up, b[50_000:])
	e.commit(up, d, b)
	e.holds(d, b)
	e.wantList(what+": walk", strs(e.walk("")), []string{d.String()})
	up = e.create(storage.Hint{})
	e.write(up, []byte("x"))
	e.must(what+": cancel", up.Cancel(e.ctx))
	// A fault of Create leaves uploads without bytes behind, no more.
	for info, err := range e.s.Uploads(e.ctx, "") {
		e.must(what+": list uploads", err)
		if info.Size != 0 {
			e.errorf("%s: upload of %d bytes stays", what, info.Size)
		}
		e.must(what+": cancel", e.resume(info.ID).Cancel(e.ctx))
	}
	e.must(what+": delete", e.s.Delete(e.ctx, d))
	e.lacks(d)
}

// testFaultsCommit: whoever gets an error from Commit finds either the upload or the blob.
func testFaultsCommit(e *env) {
	for _, done := range []bool{false, true} {
		b := e.bytesOf(70_000)
		d := digest.FromBytes(b)
		e.withFaults("commit", false, []storage.Fault{{Op: storage.OpCommit, Done: done}}, func() {
			up := e.create(storage.Hint{})
			e.write(up, b)
			_, err := up.Commit(e.ctx, d)
			e.want("commit", err, storage.ErrInjected)
			e.must("close", up.Close())
			if done {
				e.holds(d, b)
				_, err := e.s.Resume(e.ctx, up.ID())
				e.want("resume after a commit that was done", err, storage.ErrUploadUnknown)
				return
			}
			e.lacks(d)
			up = e.resume(up.ID())
			e.commit(up, d, b)
			e.holds(d, b)
		})
	}
}

// testFaultsWrite: after a failed write the client goes on from Size.
func testFaultsWrite(e *env) {
	b := e.bytesOf(300_000)
	d := digest.FromBytes(b)
	for _, fault := range []storage.Fault{
		{Op: storage.OpWrite}, {Op: storage.OpWrite, After: 1}, {Op: storage.OpWrite, After: 100_000}, {Op: storage.OpWrite, Done: true},
	} {
		e.withFaults("write", false, []storage.Fault{fault}, func() {
			up := e.create(storage.Hint{})
			n, err := up.ReadFrom(bytes.NewReader(b))
			e.want("write", err, storage.ErrInjected)
			if up.Size() != n {
				e.errorf("Size is %d after a write of %d", up.Size(), n)
			}
			e.must("close", up.Close())
			up = e.resume(up.ID())
			if up.Size() != n {
				e.errorf("resumed at %d after a write of %d", up.Size(), n)
			}
			e.write(up, b[up.Size():])
			e.commit(up, d, b)
			e.holds(d, b)
			e.must("delete", e.s.Delete(e.ctx, d))
		})
	}
}

// testFaultsRead: a reader's error reaches the caller behind the bytes that were good.
func testFaultsRead(e *env) {
	b := e.bytesOf(50_000)
	d := e.put(b)
	e.withFaults("read", false, []storage.Fault{{Op: storage.OpRead, After: 20_000}}, func() {
		r, _, err := e.s.Open(e.ctx, d)
		e.must("open", err)
		defer r.Close()
		got, err := io.ReadAll(r)
		if !errors.Is(err, storage.ErrInjected) || !bytes.Equal(got, b[:20_000]) {
			e.errorf("read %d bytes, %v; want 20000 and the fault", len(got), err)
		}
	})
	e.holds(d, b)
}
