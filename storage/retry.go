package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
)

// RetryOptions for [WithRetry]. The zero value is useful.
type RetryOptions struct {
	// Attempts in all. Default: 4.
	Attempts int
	// First and Max are the shortest and longest wait between attempts, which doubles in between and is shortened at
	// random by up to half. Defaults: 100 ms and 5 s.
	First, Max time.Duration
	// Retryable says whether an error may pass by itself. Default: every error but those of this package and those
	// of a context.
	Retryable func(error) bool
	// Log gets a line for each failed attempt that is tried again; nil is slog.Default().
	Log *slog.Logger
	// OnRetry, if not nil, is told of the same; for counters.
	OnRetry func(Op, error)
	// Sleep waits, or returns the context's error. Default: a timer.
	Sleep func(context.Context, time.Duration) error
}

// WithRetry tries calls again that can be repeated without harm: Stat, Open, Link, Create, Resume, Delete, and
// Flush, Commit, Cancel and PartLink of an upload. Uploads and Walk go on behind the last item they gave. Write and
// ReadFrom are never repeated, since their bytes are gone; nor are reads of an open blob.
//
// An attempt may have been carried out though its answer was lost. So, after a failed attempt, a Delete that finds
// nothing and a Cancel that finds no upload are successes, and a Commit that finds no upload is one if the blob is there.
func WithRetry(s Store, opts *RetryOptions) Store {
	r := &retry{Store: s}
	if opts != nil {
		r.o = *opts
	}
	if r.o.Attempts < 1 {
		r.o.Attempts = 4
	}
	if r.o.First <= 0 {
		r.o.First = 100 * time.Millisecond
	}
	if r.o.Max <= 0 {
		r.o.Max = 5 * time.Second
	}
	if r.o.Retryable == nil {
		r.o.Retryable = mayPass
	}
	if r.o.Log == nil {
		r.o.Log = slog.Default()
	}
	if r.o.Sleep == nil {
		r.o.Sleep = sleep
	}
	return r
}

func mayPass(err error) bool {
	for _, final := range []error{
		ErrNotFound, ErrNoLink, ErrUploadUnknown, ErrUploadBusy, ErrDigestMismatch, ErrDigestInvalid, ErrNoSpace,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

type retry struct {
	Store
	o RetryOptions
}

// do runs a call until it succeeds, fails for good, or was tried often enough. The call is told which attempt it is.
func (r *retry) do(ctx context.Context, op Op, call func(attempt int) error) error {
	wait := r.o.First
	for attempt := 1; ; attempt++ {
		err := call(attempt)
		if err == nil || !r.o.Retryable(err) {
			return err
		}
		if attempt >= r.o.Attempts {
			return fmt.Errorf("%w (tried %d times)", err, attempt)
		}
		r.o.Log.LogAttrs(ctx, slog.LevelWarn, "storage: trying again",
			slog.String("op", string(op)), slog.Int("attempt", attempt), slog.Any("err", err))
		if r.o.OnRetry != nil {
			r.o.OnRetry(op, err)
		}
		if serr := r.o.Sleep(ctx, wait-time.Duration(rand.Int64N(int64(wait/2)+1))); serr != nil {
			return errors.Join(err, serr)
		}
		wait = min(2*wait, r.o.Max)
	}
}

func (r *retry) Stat(ctx context.Context, d digest.Digest) (info Info, err error) {
	err = r.do(ctx, OpStat, func(int) (err error) { info, err = r.Store.Stat(ctx, d); return err })
	return info, err
}

func (r *retry) Open(ctx context.Context, d digest.Digest) (f io.ReadSeekCloser, info Info, err error) {
	err = r.do(ctx, OpOpen, func(int) (err error) { f, info, err = r.Store.Open(ctx, d); return err })
	return f, info, err
}

func (r *retry) Link(ctx context.Context, d digest.Digest, ttl time.Duration) (link string, err error) {
	err = r.do(ctx, OpLink, func(int) (err error) { link, err = r.Store.Link(ctx, d, ttl); return err })
	return link, err
}

func (r *retry) Create(ctx context.Context, hint Hint) (Upload, error) {
	return r.upload(ctx, OpCreate, func() (Upload, error) { return r.Store.Create(ctx, hint) })
}

func (r *retry) Resume(ctx context.Context, id string) (Upload, error) {
	return r.upload(ctx, OpResume, func() (Upload, error) { return r.Store.Resume(ctx, id) })
}

func (r *retry) upload(ctx context.Context, op Op, begin func() (Upload, error)) (Upload, error) {
	var up Upload
	err := r.do(ctx, op, func(int) (err error) { up, err = begin(); return err })
	if err != nil {
		return nil, err
	}
	return &retryUpload{Upload: up, r: r}, nil
}

func (r *retry) Delete(ctx context.Context, d digest.Digest) error {
	return r.do(ctx, OpDelete, func(attempt int) error {
		err := r.Store.Delete(ctx, d)
		if attempt > 1 && errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	})
}

func (r *retry) Uploads(ctx context.Context, after string) iter.Seq2[UploadInfo, error] {
	return func(yield func(UploadInfo, error) bool) {
		retrySeq(ctx, r, OpUploads, yield, func() iter.Seq2[UploadInfo, error] { return r.Store.Uploads(ctx, after) },
			func(info UploadInfo) { after = info.ID })
	}
}

func (r *retry) Walk(ctx context.Context, after digest.Digest) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		retrySeq(ctx, r, OpWalk, yield, func() iter.Seq2[Info, error] { return r.Store.Walk(ctx, after) },
			func(info Info) { after = info.Digest })
	}
}

// retrySeq goes on behind the last item after an error.
func retrySeq[T any](ctx context.Context, r *retry, op Op, yield func(T, error) bool, list func() iter.Seq2[T, error], seen func(T)) {
	var zero T
	stopped := false
	err := r.do(ctx, op, func(int) error {
		for v, err := range list() {
			if err != nil {
				return err
			}
			seen(v)
			if !yield(v, nil) {
				stopped = true
				return nil
			}
		}
		return nil
	})
	if err != nil && !stopped {
		yield(zero, err)
	}
}

type retryUpload struct {
	Upload
	r *retry
}

func (u *retryUpload) PartLink(ctx context.Context, n int, size int64) (req *http.Request, err error) {
	err = u.r.do(ctx, OpPartLink, func(int) (err error) { req, err = u.Upload.PartLink(ctx, n, size); return err })
	return req, err
}

func (u *retryUpload) Flush(ctx context.Context) error {
	return u.r.do(ctx, OpFlush, func(int) error { return u.Upload.Flush(ctx) })
}

func (u *retryUpload) Commit(ctx context.Context, d digest.Digest) (info Info, err error) {
	err = u.r.do(ctx, OpCommit, func(attempt int) (err error) {
		info, err = u.Upload.Commit(ctx, d)
		if attempt > 1 && errors.Is(err, ErrUploadUnknown) {
			info, err = u.r.Store.Stat(ctx, d)
			if errors.Is(err, ErrNotFound) {
				return ErrUploadUnknown
			}
		}
		return err
	})
	return info, err
}

func (u *retryUpload) Cancel(ctx context.Context) error {
	return u.r.do(ctx, OpCancel, func(attempt int) error {
		err := u.Upload.Cancel(ctx)
		if attempt > 1 && errors.Is(err, ErrUploadUnknown) {
			return nil
		}
		return err
	})
}
