package pds

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

// learnLayers reads the layers of a manifest from its bytes, when its record has none.
func (b *Backend) learnLayers(ctx context.Context, o owner, m manifestRow) error {
	served, err := b.bodies.manifest(ctx, o, m)
	var layers []layer
	switch {
	case errors.Is(err, registry.ErrManifestUnknown): // can't be served, so it has none
	case err != nil:
		return err
	default:
		p, err := registry.ParseManifest(served.MediaType, served.Bytes, m.Digest)
		if err != nil {
			return err
		}
		layers = layersOf(p)
	}
	if err := b.lister.mayKeep(ctx, o.DID, len(layers)); err != nil {
		return err
	}
	err = sqlx.InTx(ctx, b.db.Write(), func(tx *sql.Tx) error {
		if err := writeLayers(ctx, tx, o.DID, m.Repository, m.Digest, m.Hold, b.clock().Unix(), layers); err != nil {
			return err
		}
		if err := countLayers(ctx, tx, o.DID, len(layers)); err != nil {
			return err
		}
		return knowLayers(ctx, tx, o.DID, m)
	})
	if err != nil {
		return fmt.Errorf("remember the layers of %s: %w", m.Digest, err)
	}
	return nil
}

// layersOf lists the blobs that a manifest names, those of other hosts too.
func layersOf(p registry.ParsedManifest) []layer {
	var out []layer
	if p.Config != nil {
		out = append(out, layer{p.Config.Digest, p.Config.Size})
	}
	for _, l := range p.Layers {
		out = append(out, layer{l.Digest, l.Size})
	}
	blobs, _ := p.MustExist()
	for _, l := range blobs {
		out = append(out, layer{l.Digest, l.Size})
	}
	return out
}

// rememberUpload notes that a blob which no manifest names yet lies in a hold.
func (b *Backend) rememberUpload(ctx context.Context, owner, repository string, d digest.Digest, hold string, size int64) error {
	err := sqlx.InTx(ctx, b.db.Write(), func(tx *sql.Tx) error {
		return writeLayers(ctx, tx, owner, repository, "", hold, b.clock().Unix(), []layer{{d, size}})
	})
	if err != nil {
		return fmt.Errorf("remember the upload of %s: %w", d, err)
	}
	return nil
}
