package pds

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/keyed"
	"github.com/atcr-dev/atcr/registry/pds/internal/settle"
)

// DeleteManifest removes the manifest's records and every tag that points to it.
func (r *repository) DeleteManifest(ctx context.Context, d digest.Digest) error {
	o, err := r.writer(ctx)
	if err != nil {
		return err
	}
	release, err := r.b.locks.Lock(ctx, o.DID)
	if err != nil {
		return err
	}
	defer release()
	in := r.b.settler.Intent(keyed.NewID(), settle.Delete, o.DID, r.actor.Session, r.name, d)
	if err := r.b.deleteManifest(ctx, r, o, &in); err != nil {
		r.b.settler.Release(in.ID)
		return err
	}
	r.b.settler.Start(in)
	return nil
}

func (b *Backend) deleteManifest(ctx context.Context, r *repository, o owner, in *settle.Intent) error {
	started := false
	unknown, err := b.change(ctx, o, in.Session, func(ctx context.Context, _ bool) ([]planned, error) {
		rows, err := manifestRecords(ctx, b.db.Read(), o.DID, r.name, in.Digest)
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			if started {
				return nil, nil
			}
			return nil, r.unknown(ctx, o.DID, r.missing(ctx, o.DID, registry.Ref{Digest: in.Digest}))
		}
		if !started {
			in.Hold = rows[0].Hold
			if err := b.settler.Save(ctx, *in); err != nil {
				return nil, err
			}
			started = true
			if err := b.crash.Reach(crashpoint.IntentWritten); err != nil {
				return nil, err
			}
		}
		return b.planDelete(ctx, o.DID, rows)
	})
	if err != nil && started && !unknown && !errors.Is(err, crashpoint.ErrStopped) {
		b.settler.Drop(context.WithoutCancel(ctx), *in)
	}
	return err
}

// planDelete deletes tags before what they point to, when one commit does not take all.
func (b *Backend) planDelete(ctx context.Context, owner string, rows []manifestRow) ([]planned, error) {
	var out []planned
	seen := map[string]bool{}
	for _, m := range rows {
		tags, err := tagsOf(ctx, b.db.Read(), owner, m)
		if err != nil {
			return nil, err
		}
		for _, t := range tags {
			all, err := tagRecords(ctx, b.db.Read(), owner, t.Repository, t.Tag)
			if err != nil {
				return nil, err
			}
			if len(all) > 0 && all[0].RKey != t.RKey {
				all = []tagRow{t} // an old record of a tag that has moved on
			}
			for _, one := range all {
				if !seen[one.RKey] {
					seen[one.RKey] = true
					out = append(out, planned{write: write{Type: opDelete, Collection: atcr.NSIDTag, RKey: one.RKey}})
				}
			}
		}
	}
	if len(out)+len(rows) > maxWrites && len(out) > 0 {
		return out[:min(len(out), maxWrites)], nil
	}
	for _, m := range rows {
		out = append(out, planned{write: write{Type: opDelete, Collection: atcr.NSIDManifest, RKey: m.RKey}})
	}
	return out, nil
}

// DeleteTag removes every record of the tag.
func (r *repository) DeleteTag(ctx context.Context, tag string) error {
	o, err := r.writer(ctx)
	if err != nil {
		return err
	}
	release, err := r.b.locks.Lock(ctx, o.DID)
	if err != nil {
		return err
	}
	defer release()
	seen := false
	_, err = r.b.change(ctx, o, r.actor.Session, func(ctx context.Context, _ bool) ([]planned, error) {
		rows, err := tagRecords(ctx, r.b.db.Read(), o.DID, r.name, tag)
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 && !seen {
			return nil, r.unknown(ctx, o.DID, r.missing(ctx, o.DID, registry.Ref{Tag: tag}))
		}
		seen = true
		var out []planned
		for _, t := range rows {
			out = append(out, planned{write: write{Type: opDelete, Collection: atcr.NSIDTag, RKey: t.RKey}})
		}
		return out, nil
	})
	return err
}
