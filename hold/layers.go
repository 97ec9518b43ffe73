package hold

import (
	"context"
	"database/sql"
	"encoding/json"
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

// recordLayers writes the layer records of a manifest that are not there yet, and answers how many it wrote. The caller
// holds the manifest's lock, so that nobody else here writes them at the same time.
func (s *Server) recordLayers(ctx context.Context, did, uri string, layers []atcr.Layer) (written int, err error) {
	err = s.onIndex(ctx, func(same repo.Guard) error {
		writes, err := s.missingLayers(ctx, did, uri, layers)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(writes, maxLayerWrites) {
			if _, err := s.apply(ctx, part, same); err != nil {
				return fmt.Errorf("write layer records: %w", err)
			}
			written += len(part)
		}
		return nil
	})
	return written, err
}

// missingLayers are the writes that make the layer records of a manifest whole.
func (s *Server) missingLayers(ctx context.Context, did, uri string, layers []atcr.Layer) (writes []repo.Write, err error) {
	have, err := s.layersOf(ctx, did, uri)
	if err != nil {
		return nil, err
	}
	now := atcr.NewDatetime(s.clock())
	for _, l := range layers {
		if _, ok := have[l.Digest]; ok {
			continue
		}
		have[l.Digest] = ""
		l.Manifest, l.UserDID, l.CreatedAt = uri, did, now
		value, err := repo.RecordFrom(l)
		if err != nil {
			return nil, fmt.Errorf("layer record: %w", err)
		}
		writes = append(writes, repo.Write{Action: repo.Create, Collection: atcr.NSIDLayer, Record: value})
	}
	return writes, nil
}

// removeLayers deletes a user's layer records of a manifest and answers how many there were.
func (s *Server) removeLayers(ctx context.Context, did, uri string) (removed int, err error) {
	err = s.onIndex(ctx, func(same repo.Guard) error {
		have, err := s.layersOf(ctx, did, uri)
		if err != nil {
			return err
		}
		n, err := s.deleteRecords(ctx, atcr.NSIDLayer, slices.Collect(maps.Values(have)), same)
		removed += n
		return err
	})
	return removed, err
}

// deleteRecords deletes records and answers how many.
func (s *Server) deleteRecords(ctx context.Context, collection string, rkeys []string, guards ...repo.Guard) (done int, err error) {
	for part := range slices.Chunk(rkeys, maxLayerWrites) {
		var writes []repo.Write
		for _, k := range part {
			writes = append(writes, repo.Write{Action: repo.Delete, Collection: collection, RKey: k})
		}
		if _, err := s.apply(ctx, writes, guards...); err != nil {
			return done, fmt.Errorf("delete %s records: %w", collection, err)
		}
		done += len(part)
	}
	return done, nil
}

// layersOf answers the keys of a user's layer records of a manifest, by digest.
func (s *Server) layersOf(ctx context.Context, did, uri string) (map[string]string, error) {
	rows, err := s.db.Read().QueryContext(ctx, `select digest, rkey from hold_layer where did = $1 and manifest = $2`, did, uri)
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

// followLayers brings the index after a commit. What fails is noted, and the index is made anew before it is next relied on.
func (s *Server) followLayers(ctx context.Context, commit repo.Commit, writes []repo.Write) {
	err := sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		for i, res := range commit.Results {
			if res.Collection != atcr.NSIDLayer {
				continue
			}
			if err := indexLayer(ctx, tx, res, writes[i].Record); err != nil {
				return err
			}
		}
		return setMeta(ctx, tx, "layers_rev", commit.Rev)
	})
	if err != nil {
		s.behind = true
		s.log.Error("the index of layers is behind; it will be made anew", "error", err)
		return
	}
	s.reach(crashpoint.LayersIndexed)
}

func indexLayer(ctx context.Context, tx *sql.Tx, res repo.Result, value []byte) error {
	if res.Action == repo.Delete {
		_, err := tx.ExecContext(ctx, `delete from hold_layer where rkey = $1`, res.RKey)
		return err
	}
	l, err := decodeLayer(value)
	if err != nil {
		return nil //nolint:nilerr // a record that breaks its lexicon is not indexed
	}
	_, err = tx.ExecContext(ctx, `insert into hold_layer (rkey, did, manifest, digest, size) values ($1, $2, $3, $4, $5)
		on conflict do nothing`, res.RKey, l.UserDID, l.Manifest, l.Digest, l.Size)
	return err
}

func decodeLayer(value []byte) (l atcr.Layer, err error) {
	js, err := repo.RecordToJSON(value)
	if err == nil {
		err = json.Unmarshal(js, &l)
	}
	if err == nil {
		err = l.Check()
	}
	return l, err
}

// ensureIndex makes the index anew when it is behind, or another process has written to the repository.
func (s *Server) ensureIndex(ctx context.Context) error {
	_, err := s.indexed(ctx)
	return err
}

// indexed is ensureIndex, and answers which Foreign of the repository the index is of.
func (s *Server) indexed(ctx context.Context) (as uint64, err error) {
	s.layersMu.Lock()
	defer s.layersMu.Unlock()
	if s.behind || s.layersAs != s.repo.Foreign() {
		err = s.rebuildLayers(ctx)
	}
	return s.layersAs, err
}

// alignLayers compares the index with the repository at start. Each commit of layer records leaves its revision in the
// index, a clean end the head's; anything else costs one reading of the collection.
func (s *Server) alignLayers(ctx context.Context) error {
	s.layersMu.Lock()
	defer s.layersMu.Unlock()
	s.layersAs = s.repo.Foreign()
	head, err := s.repo.Head(ctx)
	if err != nil {
		return err
	}
	rev, err := s.meta(ctx, "layers_rev")
	if err != nil {
		return err
	}
	s.onClose(func() error { return s.noteHead(context.WithoutCancel(ctx)) })
	if rev == head.Rev {
		return nil
	}
	return s.rebuildLayers(ctx)
}

// rebuildLayers makes the index from the records. The caller holds layersMu.
func (s *Server) rebuildLayers(ctx context.Context) error {
	as := s.repo.Foreign()
	head, err := s.repo.Head(ctx)
	if err != nil {
		return err
	}
	err = sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `delete from hold_layer`); err != nil {
			return err
		}
		for rec, err := range s.repo.List(ctx, atcr.NSIDLayer, "", false) {
			if err != nil {
				return err
			}
			if err := indexLayer(ctx, tx, repo.Result{Action: repo.Create, RKey: rec.RKey}, rec.Value); err != nil {
				return err
			}
		}
		return setMeta(ctx, tx, "layers_rev", head.Rev)
	})
	if err != nil {
		return fmt.Errorf("index layers: %w", err)
	}
	s.behind, s.layersAs = false, as
	return nil
}

func (s *Server) noteHead(ctx context.Context) error {
	s.layersMu.Lock()
	defer s.layersMu.Unlock()
	if s.behind {
		return nil
	}
	rev := ""
	err := s.repo.Look(ctx, func(now repo.Snapshot) error {
		if now.Foreign() == s.layersAs {
			rev = now.Head().Rev
		}
		return nil
	})
	if err != nil || rev == "" {
		return err
	}
	return sqlx.InTx(ctx, s.db.Write(), func(tx *sql.Tx) error { return setMeta(ctx, tx, "layers_rev", rev) })
}

func setMeta(ctx context.Context, tx *sql.Tx, name, value string) error {
	_, err := tx.ExecContext(ctx, `insert into hold_meta (name, value) values ($1, $2)
		on conflict (name) do update set value = $2`, name, value)
	return err
}

func (s *Server) meta(ctx context.Context, name string) (value string, err error) {
	err = s.db.Read().QueryRowContext(ctx, `select value from hold_meta where name = $1`, name).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, sqlx.Wrap(err)
}
