package pds

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/holds"
	"github.com/atcr-dev/atcr/registry/pds/internal/keyed"
	"github.com/atcr-dev/atcr/registry/pds/internal/settle"
	"github.com/atcr-dev/atcr/registry/pds/internal/uploads"
	"github.com/atcr-dev/atcr/repo"
)

// PutManifest writes the manifest and its tags into the owner's repository, one commit, and sees to it that the hold hears of
// it: now, or after a restart.
func (r *repository) PutManifest(ctx context.Context, m registry.ParsedManifest, tags []string) error {
	o, err := r.writer(ctx)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if !validTag(tag) {
			return registry.ErrTagInvalid.With("%q is no valid tag", clip(tag))
		}
	}
	hold, err := r.b.presentHold(ctx, o, r.actor.Session)
	if err != nil {
		return err
	}
	if err := r.b.holds.EnsureWriter(ctx, r.actor, hold); err != nil {
		return err
	}
	if err := r.checkHold(ctx, o, hold, m); err != nil {
		return err
	}
	p := &push{owner: o, repository: r.name, manifest: m, tags: unique(tags), hold: hold, blobCID: repo.BlobCID(m.Bytes).String()}
	release, err := r.b.locks.Lock(ctx, o.DID)
	if err != nil {
		return err
	}
	defer release()
	in := r.b.settler.Intent(keyed.NewID(), settle.Push, o.DID, r.actor.Session, r.name, m.Digest)
	in.Tags, in.Hold = p.tags, hold
	if err := r.b.push(ctx, p, &in); err != nil {
		r.b.settler.Release(in.ID)
		return err
	}
	r.b.settler.Adopt(ctx, o.DID, r.actor.Session)
	r.b.settler.Start(in)
	return nil
}

func unique(tags []string) []string {
	out := make([]string, 0, len(tags))
	seen := map[string]bool{}
	for _, t := range tags {
		if !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	return out
}

// checkHold asks the hold for all that the manifest names (which leases it), and for the pusher's quota.
func (r *repository) checkHold(ctx context.Context, o owner, hold string, m registry.ParsedManifest) error {
	c, err := r.b.holds.As(ctx, hold, r.actor)
	if err != nil {
		return err
	}
	blobs, _ := m.MustExist()
	digests := make([]digest.Digest, len(blobs))
	for i, d := range blobs {
		digests[i] = d.Digest
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if len(digests) == 0 {
			return nil
		}
		var present map[digest.Digest]int64
		err := holds.Patiently(gctx, func() (err error) {
			present, err = c.CheckBlobs(gctx, o.DID, r.name, digests)
			return err
		})
		if err != nil {
			return holds.Error(hold, err)
		}
		for _, d := range blobs {
			size, ok := present[d.Digest]
			if !ok {
				if size, ok, err = r.bring(ctx, o, hold, d.Digest); err != nil {
					return err
				}
			}
			if !ok {
				return registry.ErrManifestBlobUnknown.With("the hold %s has no blob %s: push it first", hold, d.Digest).
					WithDetail(map[string]any{"digest": d.Digest})
			}
			if err := m.CheckSize(d, size); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		var q holdclient.Quota
		err := holds.Patiently(gctx, func() (err error) {
			q, err = c.GetQuota(gctx, o.DID)
			return err
		})
		switch {
		case errors.Is(err, holdclient.ErrNotSupported):
			return nil
		case err != nil:
			return holds.Error(hold, err)
		case q.Limit != nil && q.TotalSize > *q.Limit:
			return registry.ErrDenied.With("the quota at the hold %s is used up: %d of %d bytes; delete images or ask "+
				"its captain for a larger tier",
				hold, q.TotalSize, *q.Limit).
				WithDetail(map[string]any{"usage": q.TotalSize, "limit": *q.Limit, "tier": q.Tier})
		}
		return nil
	})
	return g.Wait()
}

// bring moves a blob of this repository from another hold to the one that pushes go to now, and returns its size: the client was told
// that it exists, and will not send it again.
func (r *repository) bring(ctx context.Context, o owner, hold string, d digest.Digest) (size int64, found bool, err error) {
	places, err := r.places(ctx, o, d, true)
	if err != nil {
		return 0, false, err
	}
	for _, p := range places {
		if p.Hold == hold || r.b.holds.MayRead(ctx, r.actor, p.Hold) != nil {
			continue
		}
		c, err := r.b.holds.As(ctx, p.Hold, r.actor)
		if err != nil {
			continue
		}
		body, err := c.OpenBlob(ctx, o.DID, d, 0, 0)
		if err != nil {
			continue
		}
		defer body.Close()
		size, err := r.b.uploads.Copy(ctx, r.actor, uploads.Target{Owner: o.DID, Repository: r.name, Hold: hold}, d, body)
		return size, err == nil, err
	}
	return 0, false, nil
}

// push does what has to be done in order. The caller has the owner's lock. What failed for certain leaves no intent.
func (b *Backend) push(ctx context.Context, p *push, in *settle.Intent) error {
	unknown, err := b.tryPush(ctx, p, in)
	if err == nil || unknown || errors.Is(err, crashpoint.ErrStopped) {
		return err
	}
	b.settler.Drop(context.WithoutCancel(ctx), *in)
	return err
}

func (b *Backend) tryPush(ctx context.Context, p *push, in *settle.Intent) (unknown bool, err error) {
	// The plan is made once before anything is written: it finds what is missing, and the record's key for the intent.
	started := false
	return b.change(ctx, p.owner, in.Session, func(ctx context.Context, retry bool) ([]planned, error) {
		if err := b.checkChildren(ctx, p); err != nil {
			return nil, err
		}
		row, exists, _, err := b.current(ctx, p)
		if err != nil {
			return nil, err
		}
		if !started {
			if err := b.writeIntent(ctx, in, p); err != nil {
				return nil, err
			}
			started = true
			if err := b.crash.Reach(crashpoint.IntentWritten); err != nil {
				return nil, err
			}
		}
		if p.blob == nil && (!exists || row.Blob != p.blobCID) {
			if p.blob, err = b.acting.uploadBlob(ctx, in.Session, p.manifest.MediaType, p.manifest.Bytes); err != nil {
				return nil, err
			}
			if err := b.crash.Reach(crashpoint.BlobUploaded); err != nil {
				return nil, err
			}
		}
		if p.blob == nil { // the record has it, perhaps to be rewritten for another reason
			p.blob = &atcr.Blob{CID: p.blobCID, MimeType: p.manifest.MediaType, Size: int64(len(p.manifest.Bytes))}
		}
		return b.planPush(ctx, p, retry)
	})
}

// checkChildren makes sure that an index names manifests of its own repository.
func (b *Backend) checkChildren(ctx context.Context, p *push) error {
	_, children := p.manifest.MustExist()
	for _, c := range children {
		row, ok, err := manifestByDigest(ctx, b.db.Read(), p.owner.DID, p.repository, c.Digest)
		if err != nil {
			return err
		}
		if !ok {
			return registry.ErrManifestBlobUnknown.With("the repository %s has no manifest %s: push it first", p.repository, c.Digest).
				WithDetail(map[string]any{"digest": c.Digest})
		}
		if row.Size > 0 { // records of the oldest form don't say it
			if err := p.manifest.CheckSize(c, row.Size); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeIntent makes the intent durable, and with it the bytes that the hold will be told.
func (b *Backend) writeIntent(ctx context.Context, in *settle.Intent, p *push) error {
	err := sqlx.InTx(ctx, b.db.Write(), func(tx *sql.Tx) error {
		if err := b.bodies.write(ctx, tx, p.manifest.Digest, newBody(p.manifest.Digest, p.manifest.Bytes)); err != nil {
			return err
		}
		return settle.Insert(ctx, tx, *in)
	})
	if errors.Is(err, sqlx.ErrNoSpace) {
		return registry.ErrNoSpace.Wrap(err)
	}
	if err != nil {
		return fmt.Errorf("write the intent: %w", err)
	}
	return nil
}
