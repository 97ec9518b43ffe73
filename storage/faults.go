package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Op names a call of a [Store], its uploads or its readers, for [Fault].
type Op string

// The calls. OpWrite is Write and ReadFrom of an upload; OpRead is Read of what Open gave.
const (
	OpStat     Op = "stat"
	OpOpen     Op = "open"
	OpLink     Op = "link"
	OpCreate   Op = "create"
	OpResume   Op = "resume"
	OpUploads  Op = "uploads"
	OpDelete   Op = "delete"
	OpWalk     Op = "walk"
	OpWrite    Op = "write"
	OpPartLink Op = "partlink"
	OpFlush    Op = "flush"
	OpCommit   Op = "commit"
	OpCancel   Op = "cancel"
	OpClose    Op = "close"
	OpRead     Op = "read"
)

// ErrInjected is the error of a [Fault] that names no other.
var ErrInjected = errors.New("injected fault")

// Fault makes one call fail.
type Fault struct {
	Op Op
	// Nth call of Op since the wrapper was made, from 1; 0 means the first.
	Nth int
	// Times is how many calls fail from Nth on; 0 means one.
	Times int
	// Err is returned; nil means [ErrInjected].
	Err error
	// Done: the call is carried out and its answer lost ("failed but done"). Otherwise nothing happens.
	Done bool
	// After is how many bytes an OpWrite takes, or an OpRead gives, before it fails. Not with Done.
	After int64
}

// Faults is a [Store] whose chosen calls fail; for tests. It is safe for concurrent use.
type Faults struct {
	s      Store
	mu     sync.Mutex
	faults []Fault
	calls  map[Op]int
	fired  []int
}

var _ Store = (*Faults)(nil)

// NewFaults wraps s. Readers stay as they are unless an OpRead is among the faults.
func NewFaults(s Store, faults ...Fault) *Faults {
	return &Faults{s: s, faults: faults, calls: make(map[Op]int), fired: make([]int, len(faults))}
}

// Add makes further calls fail; Nth counts from now.
func (f *Faults) Add(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault.Nth = max(fault.Nth, 1) + f.calls[fault.Op]
	f.faults = append(f.faults, fault)
	f.fired = append(f.fired, 0)
}

// Calls is how often an Op was called.
func (f *Faults) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// Fired is how many faults were injected. A test that injects asserts it.
func (f *Faults) Fired() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.fired {
		n += c
	}
	return n
}

// Unfired lists the faults that never happened.
func (f *Faults) Unfired() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var un []Fault
	for i, fault := range f.faults {
		if f.fired[i] == 0 {
			un = append(un, fault)
		}
	}
	return un
}

// call counts a call and finds the fault that it meets.
func (f *Faults) call(op Op) (Fault, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	n := f.calls[op]
	for i, fault := range f.faults {
		first := max(fault.Nth, 1)
		if fault.Op != op || n < first || n >= first+max(fault.Times, 1) {
			continue
		}
		f.fired[i]++
		err := fault.Err
		if err == nil {
			err = ErrInjected
		}
		return fault, fmt.Errorf("%s call %d: %w", op, n, err)
	}
	return Fault{}, nil
}

// do runs a call unless its fault says otherwise.
func (f *Faults) do(op Op, run func() error) error {
	fault, err := f.call(op)
	if err == nil {
		return run()
	}
	if fault.Done {
		if rerr := run(); rerr != nil {
			return rerr
		}
	}
	return err
}

// has reports whether an op can fail at all.
func (f *Faults) has(op Op) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range f.faults {
		if fault.Op == op {
			return true
		}
	}
	return false
}

// Stat implements [Store].
func (f *Faults) Stat(ctx context.Context, d digest.Digest) (info Info, err error) {
	err = f.do(OpStat, func() (err error) { info, err = f.s.Stat(ctx, d); return err })
	return info, err
}

// Open implements [Store].
func (f *Faults) Open(ctx context.Context, d digest.Digest) (r io.ReadSeekCloser, info Info, err error) {
	err = f.do(OpOpen, func() (err error) { r, info, err = f.s.Open(ctx, d); return err })
	switch {
	case err != nil && r != nil:
		r.Close()
		r = nil
	case err == nil && f.has(OpRead):
		r = &faultReader{ReadSeekCloser: r, f: f}
	}
	return r, info, err
}

// Link implements [Store].
func (f *Faults) Link(ctx context.Context, d digest.Digest, ttl time.Duration) (link string, err error) {
	err = f.do(OpLink, func() (err error) { link, err = f.s.Link(ctx, d, ttl); return err })
	return link, err
}

// Create implements [Store].
func (f *Faults) Create(ctx context.Context, hint Hint) (Upload, error) {
	return f.upload(OpCreate, func() (Upload, error) { return f.s.Create(ctx, hint) })
}

// Resume implements [Store].
func (f *Faults) Resume(ctx context.Context, id string) (Upload, error) {
	return f.upload(OpResume, func() (Upload, error) { return f.s.Resume(ctx, id) })
}

func (f *Faults) upload(op Op, begin func() (Upload, error)) (up Upload, err error) {
	err = f.do(op, func() (err error) { up, err = begin(); return err })
	if err != nil {
		if up != nil {
			up.Close()
		}
		return nil, err
	}
	return &faultUpload{Upload: up, f: f}, nil
}

// Uploads implements [Store]; the fault comes before the first item, with Done after the last.
func (f *Faults) Uploads(ctx context.Context, after string) iter.Seq2[UploadInfo, error] {
	return faultSeq(f, OpUploads, f.s.Uploads(ctx, after))
}

// Delete implements [Store].
func (f *Faults) Delete(ctx context.Context, d digest.Digest) error {
	return f.do(OpDelete, func() error { return f.s.Delete(ctx, d) })
}

// Walk implements [Store]; the fault comes before the first item, with Done after the last.
func (f *Faults) Walk(ctx context.Context, after digest.Digest) iter.Seq2[Info, error] {
	return faultSeq(f, OpWalk, f.s.Walk(ctx, after))
}

func faultSeq[T any](f *Faults, op Op, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		fault, err := f.call(op)
		if err != nil && !fault.Done {
			yield(zero, err)
			return
		}
		for v, serr := range seq {
			if !yield(v, serr) {
				return
			}
		}
		if err != nil {
			yield(zero, err)
		}
	}
}

type faultUpload struct {
	Upload
	f *Faults
}

func (u *faultUpload) Write(p []byte) (n int, err error) {
	fault, err := u.f.call(OpWrite)
	if err == nil {
		return u.Upload.Write(p)
	}
	if !fault.Done {
		p = p[:min(int64(len(p)), fault.After)]
	}
	n, werr := u.Upload.Write(p)
	if werr != nil {
		return n, werr
	}
	return n, err
}

func (u *faultUpload) ReadFrom(r io.Reader) (n int64, err error) {
	fault, err := u.f.call(OpWrite)
	if err == nil {
		return u.Upload.ReadFrom(r)
	}
	if !fault.Done {
		r = io.LimitReader(r, fault.After)
	}
	n, werr := u.Upload.ReadFrom(r)
	if werr != nil {
		return n, werr
	}
	return n, err
}

func (u *faultUpload) PartLink(ctx context.Context, n int, size int64) (req *http.Request, err error) {
	err = u.f.do(OpPartLink, func() (err error) { req, err = u.Upload.PartLink(ctx, n, size); return err })
	return req, err
}

func (u *faultUpload) Flush(ctx context.Context) error {
	return u.f.do(OpFlush, func() error { return u.Upload.Flush(ctx) })
}

func (u *faultUpload) Commit(ctx context.Context, d digest.Digest) (info Info, err error) {
	err = u.f.do(OpCommit, func() (err error) { info, err = u.Upload.Commit(ctx, d); return err })
	if err != nil {
		info = Info{}
	}
	return info, err
}

func (u *faultUpload) Cancel(ctx context.Context) error {
	return u.f.do(OpCancel, func() error { return u.Upload.Cancel(ctx) })
}

func (u *faultUpload) Close() error {
	// Even a Close that fails releases the upload: else nobody could resume the upload.
	_, err := u.f.call(OpClose)
	if cerr := u.Upload.Close(); cerr != nil {
		return cerr
	}
	return err
}

// faultReader counts its first Read as the call; After bytes come before the error.
type faultReader struct {
	io.ReadSeekCloser
	f    *Faults
	met  bool
	left int64
	err  error
}

func (r *faultReader) Read(p []byte) (int, error) {
	if !r.met {
		r.met = true
		var fault Fault
		fault, r.err = r.f.call(OpRead)
		r.left = fault.After
	}
	if r.err == nil {
		return r.ReadSeekCloser.Read(p)
	}
	if r.left <= 0 {
		return 0, r.err
	}
	n, err := r.ReadSeekCloser.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}
