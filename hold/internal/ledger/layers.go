package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
)

// maxLayerWrites keeps one commit, and its event, within what a firehose takes.
const maxLayerWrites = 200

// Apply writes to the repository and lets the index of layers follow. Whoever writes layer records does it by this; other records
// may be among them. Errors are those of repo.Repo.Apply.
func (l *Ledger) Apply(ctx context.Context, writes []repo.Write, guards ...repo.Guard) (repo.Commit, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	commit, err := l.repo.Apply(ctx, writes, guards...)
	if err != nil {
		return commit, err
	}
	l.reach(pointOf(writes))
	l.followLayers(context.WithoutCancel(ctx), commit, writes)
	return commit, nil
}

func pointOf(writes []repo.Write) string {
	for _, w := range writes {
		if w.Collection == atcr.NSIDLayer && w.Action != repo.Delete {
			return crashpoint.LayersRecorded
		}
	}
	return crashpoint.LayersRemoved
}

// Record writes the layer records of a manifest that are not there yet, notes the manifest as pushed here, and ends the leases on
// its layers. It returns how many records it wrote: however often it is called, there is one for each layer. The caller lets in
// one call at a time for each manifest.
func (l *Ledger) Record(ctx context.Context, m Manifest, layers []atcr.Layer) (written int, err error) {
	if written, err = l.recordLayers(ctx, m.DID, m.URI, layers); err != nil {
		return 0, err
	}
	_, err = l.db.Write().ExecContext(ctx, `insert into hold_manifest (did, repository, digest, uri) values ($1, $2, $3, $4)
		on conflict (did, repository, digest) do update set uri = $4`, m.DID, m.Repository, m.Digest.String(), m.URI)
	if err != nil {
		return 0, fmt.Errorf("note manifest: %w", sqlx.Wrap(err))
	}
	digests := make([]string, 0, len(layers))
	for _, layer := range layers {
		digests = append(digests, layer.Digest)
	}
	return written, l.dropLeases(ctx, m.DID, m.Repository, digests)
}

// Remove deletes the layer records of a manifest under the at-uris of its record, and forgets that it was pushed here. It returns how
// many records there were.
func (l *Ledger) Remove(ctx context.Context, m Manifest, uris []string) (removed int, err error) {
	for _, uri := range uris {
		n, err := l.removeLayers(ctx, m.DID, uri)
		if err != nil {
			return removed, err
		}
		removed += n
	}
	_, err = l.db.Write().ExecContext(ctx, `delete from hold_manifest where did = $1 and repository = $2 and digest = $3`,
		m.DID, m.Repository, m.Digest.String())
	if err != nil {
		return removed, fmt.Errorf("forget manifest: %w", sqlx.Wrap(err))
	}
	return removed, nil
}

// URI returns the record that a push of this manifest was noted with, empty if none was.
func (l *Ledger) URI(ctx context.Context, m Manifest) (uri string, err error) {
	err = l.db.Read().QueryRowContext(ctx, `select uri from hold_manifest where did = $1 and repository = $2 and digest = $3`,
		m.DID, m.Repository, m.Digest.String()).Scan(&uri)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("find manifest: %w", sqlx.Wrap(err))
	}
	return uri, nil
}

// RecordKeys returns the record keys of a user's layer records of a manifest.
func (l *Ledger) RecordKeys(ctx context.Context, did, uri string) ([]string, error) {
	if err := l.Refresh(ctx); err != nil {
		return nil, err
	}
	have, err := l.layersOf(ctx, did, uri)
	return slices.Collect(maps.Values(have)), err
}

// recordLayers writes the layer records of a manifest that are not there yet, and returns how many it wrote. The caller
// has the manifest's lock, so that nobody else here writes them at the same time.
func (l *Ledger) recordLayers(ctx context.Context, did, uri string, layers []atcr.Layer) (written int, err error) {
	err = l.onIndex(ctx, func(same repo.Guard) error {
		writes, err := l.missingLayers(ctx, did, uri, layers)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(writes, maxLayerWrites) {
			if _, err := l.Apply(ctx, part, same); err != nil {
				return fmt.Errorf("write layer records: %w", err)
			}
			written += len(part)
		}
		return nil
	})
	return written, err
}

// missingLayers are the writes that make the layer records of a manifest whole.
func (l *Ledger) missingLayers(ctx context.Context, did, uri string, layers []atcr.Layer) (writes []repo.Write, err error) {
	have, err := l.layersOf(ctx, did, uri)
	if err != nil {
		return nil, err
	}
	now := atcr.NewDatetime(l.clock())
	for _, layer := range layers {
		if _, ok := have[layer.Digest]; ok {
			continue
		}
		have[layer.Digest] = ""
		layer.Manifest, layer.UserDID, layer.CreatedAt = uri, did, now
		value, err := repo.RecordFrom(layer)
		if err != nil {
			return nil, fmt.Errorf("layer record: %w", err)
		}
		writes = append(writes, repo.Write{Action: repo.Create, Collection: atcr.NSIDLayer, Record: value})
	}
	return writes, nil
}

// removeLayers deletes a user's layer records of a manifest and returns how many there were.
func (l *Ledger) removeLayers(ctx context.Context, did, uri string) (removed int, err error) {
	err = l.onIndex(ctx, func(same repo.Guard) error {
		have, err := l.layersOf(ctx, did, uri)
		if err != nil {
			return err
		}
		n, err := l.deleteLayers(ctx, slices.Collect(maps.Values(have)), same)
		removed += n
		return err
	})
	return removed, err
}

// deleteLayers deletes layer records and returns how many.
func (l *Ledger) deleteLayers(ctx context.Context, rkeys []string, guards ...repo.Guard) (done int, err error) {
	for part := range slices.Chunk(rkeys, maxLayerWrites) {
		var writes []repo.Write
		for _, k := range part {
			writes = append(writes, repo.Write{Action: repo.Delete, Collection: atcr.NSIDLayer, RKey: k})
		}
		if _, err := l.Apply(ctx, writes, guards...); err != nil {
			return done, fmt.Errorf("delete %s records: %w", atcr.NSIDLayer, err)
		}
		done += len(part)
	}
	return done, nil
}

// layersOf returns the keys of a user's layer records of a manifest, by digest.
func (l *Ledger) layersOf(ctx context.Context, did, uri string) (map[string]string, error) {
	rows, err := l.db.Read().QueryContext(ctx, `select digest, rkey from hold_layer where did = $1 and manifest = $2`, did, uri)
	if err != nil {
		return nil, fmt.Errorf("layers of %s: %w", uri, sqlx.Wrap(err))
	}
	defer rows.Close()
	have := map[string]string{}
	for rows.Next() {
		var d, rkey string
		if err := rows.Scan(&d, &rkey); err != nil {
			return nil, fmt.Errorf("layers of %s: %w", uri, sqlx.Wrap(err))
		}
		have[d] = rkey
	}
	return have, sqlx.Wrap(rows.Err())
}
