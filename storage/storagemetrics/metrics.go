// Package storagemetrics counts and times what a [storage.Store] does, for Prometheus.
//
// The collectors are handed out and never registered here:
//
//	m := storagemetrics.New("file")
//	registry.MustRegister(m.Collectors()...)
//	store = m.Wrap(store)
//
// Readers are passed on as they are, so that a file stays a file: bytes read are not counted.
// It stands apart from package storage so that importing that one compiles no Prometheus.
package storagemetrics

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the collectors of one store or of several alike. Safe for concurrent use.
type Metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	written prometheus.Counter
	open    prometheus.Gauge
}

// New makes the collectors; driver becomes their constant label "driver".
func New(driver string) *Metrics {
	labels := prometheus.Labels{"driver": driver}
	return &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atcr_storage_calls_total", Help: "Calls of the blob storage by operation and result.", ConstLabels: labels,
		}, []string{"op", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "atcr_storage_call_seconds", Help: "Time of calls of the blob storage.", ConstLabels: labels,
			Buckets: []float64{.0005, .002, .01, .05, .25, 1, 5, 30},
		}, []string{"op"}),
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atcr_storage_written_bytes_total", Help: "Bytes taken by uploads.", ConstLabels: labels,
		}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "atcr_storage_open_uploads", Help: "Uploads that a writer has open.", ConstLabels: labels,
		}),
	}
}

// Collectors are all collectors, to be registered where the caller likes.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.calls, m.seconds, m.written, m.open}
}

// Wrap counts what s does.
func (m *Metrics) Wrap(s storage.Store) storage.Store { return &store{s: s, m: m} }

// results are the label values, so that errors of any wording make no new series.
var results = []struct {
	err  error
	name string
}{
	{storage.ErrNotFound, "not_found"},
	{storage.ErrNoLink, "no_link"},
	{storage.ErrUploadUnknown, "upload_unknown"},
	{storage.ErrUploadBusy, "upload_busy"},
	{storage.ErrDigestMismatch, "digest_mismatch"},
	{storage.ErrDigestInvalid, "digest_invalid"},
	{storage.ErrNoSpace, "no_space"},
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "timeout"},
}

func result(err error) string {
	if err == nil {
		return "ok"
	}
	for _, r := range results {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return "error"
}

// done is deferred: the error is read when the call ends.
func (m *Metrics) done(op storage.Op, began time.Time, err *error) {
	m.calls.WithLabelValues(string(op), result(*err)).Inc()
	m.seconds.WithLabelValues(string(op)).Observe(time.Since(began).Seconds())
}

type store struct {
	s storage.Store
	m *Metrics
}

func (w *store) Stat(ctx context.Context, d digest.Digest) (_ storage.Info, err error) {
	defer w.m.done(storage.OpStat, time.Now(), &err)
	return w.s.Stat(ctx, d)
}

func (w *store) Open(ctx context.Context, d digest.Digest) (_ io.ReadSeekCloser, _ storage.Info, err error) {
	defer w.m.done(storage.OpOpen, time.Now(), &err)
	return w.s.Open(ctx, d)
}

func (w *store) Link(ctx context.Context, d digest.Digest, ttl time.Duration) (_ string, err error) {
	defer w.m.done(storage.OpLink, time.Now(), &err)
	return w.s.Link(ctx, d, ttl)
}

func (w *store) Create(ctx context.Context, hint storage.Hint) (_ storage.Upload, err error) {
	defer w.m.done(storage.OpCreate, time.Now(), &err)
	return w.upload(w.s.Create(ctx, hint))
}

func (w *store) Resume(ctx context.Context, id string) (_ storage.Upload, err error) {
	defer w.m.done(storage.OpResume, time.Now(), &err)
	return w.upload(w.s.Resume(ctx, id))
}

func (w *store) upload(up storage.Upload, err error) (storage.Upload, error) {
	if err != nil {
		return nil, err
	}
	w.m.open.Inc()
	return &upload{Upload: up, m: w.m}, nil
}

func (w *store) Delete(ctx context.Context, d digest.Digest) (err error) {
	defer w.m.done(storage.OpDelete, time.Now(), &err)
	return w.s.Delete(ctx, d)
}

func (w *store) Uploads(ctx context.Context, after string) iter.Seq2[storage.UploadInfo, error] {
	return counted(w.m, storage.OpUploads, w.s.Uploads(ctx, after))
}

func (w *store) Walk(ctx context.Context, after digest.Digest) iter.Seq2[storage.Info, error] {
	return counted(w.m, storage.OpWalk, w.s.Walk(ctx, after))
}

// counted counts a whole list as one call; its time holds the caller's own.
func counted[T any](m *Metrics, op storage.Op, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var last error
		defer m.done(op, time.Now(), &last)
		for v, err := range seq {
			last = err
			if !yield(v, err) {
				return
			}
		}
	}
}

type upload struct {
	storage.Upload
	m    *Metrics
	over bool
}

func (u *upload) Write(p []byte) (n int, err error) {
	n, err = u.Upload.Write(p)
	u.m.written.Add(float64(n))
	return n, err
}

func (u *upload) ReadFrom(r io.Reader) (n int64, err error) {
	defer u.m.done(storage.OpWrite, time.Now(), &err)
	n, err = u.Upload.ReadFrom(r)
	u.m.written.Add(float64(n))
	return n, err
}

func (u *upload) Flush(ctx context.Context) (err error) {
	defer u.m.done(storage.OpFlush, time.Now(), &err)
	return u.Upload.Flush(ctx)
}

func (u *upload) Commit(ctx context.Context, d digest.Digest) (_ storage.Info, err error) {
	defer u.m.done(storage.OpCommit, time.Now(), &err)
	info, err := u.Upload.Commit(ctx, d)
	if err == nil {
		u.end()
	}
	return info, err
}

func (u *upload) Cancel(ctx context.Context) (err error) {
	defer u.m.done(storage.OpCancel, time.Now(), &err)
	err = u.Upload.Cancel(ctx)
	if err == nil {
		u.end()
	}
	return err
}

func (u *upload) Close() (err error) {
	defer u.m.done(storage.OpClose, time.Now(), &err)
	u.end()
	return u.Upload.Close()
}

func (u *upload) end() {
	if !u.over {
		u.over = true
		u.m.open.Dec()
	}
}
