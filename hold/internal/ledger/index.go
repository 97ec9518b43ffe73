package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
)

// errForeign: another process has written to the repository since the index was made.
var errForeign = fmt.Errorf("another process has written to the hold's repository: %w", repo.ErrBusy)

// followLayers brings the index after a commit. What fails is noted, and the index is rebuilt before it is next relied on.
func (l *Ledger) followLayers(ctx context.Context, commit repo.Commit, writes []repo.Write) {
	err := sqlx.InTx(ctx, l.db.Write(), func(tx *sql.Tx) error {
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
		l.behind = true
		l.log.Error("the index of layers is behind; it will be rebuilt", "error", err)
		return
	}
	l.reach(crashpoint.LayersIndexed)
}

func indexLayer(ctx context.Context, tx *sql.Tx, res repo.Result, value []byte) error {
	if res.Action == repo.Delete {
		_, err := tx.ExecContext(ctx, `delete from hold_layer where rkey = $1`, res.RKey)
		return err
	}
	layer, err := decodeLayer(value)
	if err != nil {
		return nil //nolint:nilerr // a record that breaks its lexicon is not indexed
	}
	_, err = tx.ExecContext(ctx, `insert into hold_layer (rkey, did, manifest, digest, size) values ($1, $2, $3, $4, $5)
		on conflict do nothing`, res.RKey, layer.UserDID, layer.Manifest, layer.Digest, layer.Size)
	return err
}

func decodeLayer(value []byte) (layer atcr.Layer, err error) {
	js, err := repo.RecordToJSON(value)
	if err == nil {
		err = json.Unmarshal(js, &layer)
	}
	if err == nil {
		err = layer.Check()
	}
	return layer, err
}

// Refresh rebuilds the index when it is behind, or another process has written to the repository.
func (l *Ledger) Refresh(ctx context.Context) error {
	_, err := l.indexed(ctx)
	return err
}

// indexed is Refresh, and returns which Foreign of the repository the index is of.
func (l *Ledger) indexed(ctx context.Context) (as uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.behind || l.as != l.repo.Foreign() {
		err = l.rebuild(ctx)
	}
	return l.as, err
}

func (l *Ledger) align(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.as = l.repo.Foreign()
	head, err := l.repo.Head(ctx)
	if err != nil {
		return err
	}
	rev, err := l.Meta(ctx, "layers_rev")
	if err != nil {
		return err
	}
	if rev == head.Rev {
		return nil
	}
	return l.rebuild(ctx)
}

// rebuild makes the index from the records. The caller holds mu.
func (l *Ledger) rebuild(ctx context.Context) error {
	as := l.repo.Foreign()
	head, err := l.repo.Head(ctx)
	if err != nil {
		return err
	}
	err = sqlx.InTx(ctx, l.db.Write(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `delete from hold_layer`); err != nil {
			return err
		}
		for rec, err := range l.repo.List(ctx, atcr.NSIDLayer, "", false) {
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
	l.behind, l.as = false, as
	return nil
}

// Close leaves the head's revision in the index, so that the next Open need not read the records. Close it before the repository.
func (l *Ledger) Close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.behind {
		return nil
	}
	rev := ""
	err := l.repo.Look(ctx, func(now repo.Snapshot) error {
		if now.Foreign() == l.as {
			rev = now.Head().Rev
		}
		return nil
	})
	if err != nil || rev == "" {
		return err
	}
	return sqlx.InTx(ctx, l.db.Write(), func(tx *sql.Tx) error { return setMeta(ctx, tx, "layers_rev", rev) })
}

// onIndex calls f while the index of layers is that of the repository: f gives the guard to each commit that relies on it, and is
// called again, a few times, when another process came between.
func (l *Ledger) onIndex(ctx context.Context, f func(repo.Guard) error) error {
	for try := 0; ; try++ {
		as, err := l.indexed(ctx)
		if err == nil {
			err = f(func(now repo.Snapshot) error {
				if now.Foreign() != as {
					return errForeign
				}
				return nil
			})
		}
		if !errors.Is(err, errForeign) || try == 5 {
			return err
		}
	}
}
