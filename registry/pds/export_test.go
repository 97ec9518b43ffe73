package pds

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/settle"
	"github.com/atcr-dev/atcr/registry/pds/internal/uploads"
)

// AnonymousPull counts a pull by nobody.
func (b *Backend) AnonymousPull(owner, repository string, d digest.Digest) {
	b.pulls.Count(registry.Actor{}, owner, repository, d)
}

// SendPulls tells holds of all pulls that wait, and returns when they answered.
func (b *Backend) SendPulls() {
	b.pulls.Send(true)
	b.work.Wait()
}

// Disproved returns how many records were refused because the owner's signed repository does not hold them, by the metric.
func (b *Backend) Disproved() int64 {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(b.Metrics()...)
	families, err := reg.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		if f.GetName() == "atcr_records_disproved_total" {
			return int64(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	panic("no such metric")
}

// Held returns how many bytes of uploads are here.
func (b *Backend) Held() (memory, tails int64) { return b.uploads.Held() }

// Copy brings a blob to a hold, as a push does for one that lies in another.
func (b *Backend) Copy(ctx context.Context, actor registry.Actor, at uploads.Target, d digest.Digest, body io.Reader) error {
	_, err := b.uploads.Copy(ctx, actor, at, d, body)
	return err
}

// AwaitOwner returns when nobody works on an owner's copy.
func (b *Backend) AwaitOwner(ctx context.Context, did string) error {
	release, err := b.locks.Lock(ctx, did)
	if err == nil {
		release()
	}
	return err
}

// KeepHouse does what Run does from time to time.
func (b *Backend) KeepHouse(ctx context.Context) { b.keepHouse(ctx) }

// Taken returns what the copies take, as it is known and as the database says.
func (b *Backend) Taken(ctx context.Context) (known, counted int64, err error) {
	r := room{db: b.db}
	err = r.count(ctx)
	return b.lister.room.total.Load(), r.total.Load(), err
}

// Uploads counts the rows of uploads.
func (b *Backend) Uploads(ctx context.Context) (n int, err error) {
	err = b.db.Read().QueryRowContext(ctx, `select count(*) from pds_upload`).Scan(&n)
	return n, err
}

// Open returns the intents that are open, by name.
func (b *Backend) Open(ctx context.Context) (ids []string, err error) {
	list, err := b.settler.List(ctx, "")
	for _, in := range list {
		if in.State == settle.StateOpen {
			ids = append(ids, in.ID)
		}
	}
	return ids, err
}

// Begin settles an intent that was read as due.
func (b *Backend) Begin(ctx context.Context, id string) (bool, error) {
	return b.settler.Begin(ctx, id)
}
