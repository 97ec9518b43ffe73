package pds

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

// placesAsked finds the holds that a blob lies in, by what is known; for the owner by uploads, too. Of records that were listed the
// layers are kept only when a blob was asked for: first those of manifests that were served, then all of the owner.
func (b *Backend) placesAsked(ctx context.Context, o owner, repository string, d digest.Digest, uploads bool) ([]place, error) {
	found, err := b.placesOf(ctx, o.DID, repository, d, uploads)
	for err == nil && len(found) == 0 {
		var served []manifestRow
		if served, err = b.servedWithoutLayers(ctx, o.DID, repository); err != nil || len(served) == 0 {
			break
		}
		for _, m := range served {
			if err := b.learnLayers(ctx, o, m); err != nil {
				return nil, err
			}
		}
		found, err = b.placesOf(ctx, o.DID, repository, d, uploads)
	}
	if err != nil || len(found) > 0 {
		return found, err
	}
	again, err := b.listLayers(ctx, o, repository)
	if err != nil || !again {
		return nil, err
	}
	return b.placesOf(ctx, o.DID, repository, d, uploads)
}

// servedWithoutLayers lists manifests whose bytes are here and whose layers are not known.
func (b *Backend) servedWithoutLayers(ctx context.Context, owner, repository string) ([]manifestRow, error) {
	return listRows(ctx, b.db.Read(), scanManifest, `select `+manifestColumns+` from pds_manifest m
		where owner = $1 and repository = $2 and layers_known = 0 and exists (select 1 from pds_bytes b where b.digest = m.digest)
		limit 20`, owner, repository)
}

// listLayers lists an owner's records once more, with their layers, and reports whether it did: not when that was done, or when no
// layers of the repository are missing.
func (b *Backend) listLayers(ctx context.Context, o owner, repository string) (bool, error) {
	row, err := readOwner(ctx, b.reads, o.DID)
	if err != nil || row.Layers && row.ListCollection == "" {
		return false, err
	}
	var missing int
	err = b.db.Read().QueryRowContext(ctx, `select count(*) from
		(select 1 from pds_manifest where owner = $1 and repository = $2 and layers_known = 0 limit 1) as x`, o.DID, repository).Scan(&missing)
	if err != nil || missing == 0 {
		return false, sqlx.Wrap(err)
	}
	if err, ok := b.silent.Get(o.DID, b.clock()); ok {
		return false, err
	}
	if err := pay(ctx); err != nil {
		return false, err
	}
	_, err = b.flight.Do(ctx, "layers "+o.DID, listWithin, func(ctx context.Context) (struct{}, error) {
		release, err := b.locks.Lock(ctx, o.DID)
		if err != nil {
			return struct{}{}, err
		}
		defer release()
		row, err := readOwner(ctx, b.db.Read(), o.DID)
		if err != nil || row.Layers && row.ListCollection == "" {
			return struct{}{}, err
		}
		if !row.Layers {
			row.Layers, row.Rev, row.ListCollection = true, "", "" // from the start
		}
		if _, err = b.refresh(ctx, o, row); err != nil {
			b.noteSilence(ctx, o.DID, err)
		}
		return struct{}{}, err
	})
	return err == nil, err
}
