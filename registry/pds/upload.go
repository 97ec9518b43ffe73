package pds

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/holds"
	"github.com/atcr-dev/atcr/registry/pds/internal/uploads"
)

// StartUpload begins an upload to the owner's present hold, which is not asked before there are bytes.
func (r *repository) StartUpload(ctx context.Context, hint registry.UploadHint) (registry.Upload, error) {
	o, err := r.writer(ctx)
	if err != nil {
		return nil, err
	}
	hold, err := r.b.presentHold(ctx, o, r.actor.Session)
	if err != nil {
		return nil, err
	}
	if err := r.b.holds.EnsureWriter(ctx, r.actor, hold); err != nil {
		return nil, err
	}
	// A blob that comes whole with its digest is over with this request; else the id has to last.
	up, err := r.b.uploads.Start(ctx, r.actor, uploads.Target{Owner: o.DID, Repository: r.name, Hold: hold}, hint.Digest == "")
	if err != nil {
		return nil, err
	}
	return up, nil
}

// Upload continues an upload of the same account to the same repository.
func (r *repository) Upload(ctx context.Context, id string) (registry.Upload, error) {
	// An owner that can't be resolved now stops no upload: the account and the repository are compared in any case.
	owner := ""
	if o, err := r.b.names.owner(ctx, r.id); err == nil {
		owner = o.DID
	}
	up, err := r.b.uploads.Open(ctx, r.actor, owner, r.name, id)
	if err != nil {
		return nil, err
	}
	return up, nil
}

// landed remembers where a blob lies that no manifest names yet.
func (b *Backend) landed(ctx context.Context, at uploads.Target, d digest.Digest, size int64) error {
	if err := b.rememberUpload(ctx, at.Owner, at.Repository, d, at.Hold, size); err != nil {
		return err
	}
	b.leased.Put(at.Owner+"/"+at.Repository+"@"+d.String(), place{at.Hold, size}, b.clock().Add(holds.RightsFor))
	return nil
}
