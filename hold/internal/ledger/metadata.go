package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

// pushed is a manifest that was pushed here.
type pushed struct {
	DID        string `json:"did"`
	Repository string `json:"repository"`
	Digest     string `json:"digest"`
	URI        string `json:"uri"`
}

// WriteManifests writes which manifests were pushed here, as lines of JSON: what the repository does not say.
func WriteManifests(ctx context.Context, db *sqlx.DB, w io.Writer) error {
	rows, err := db.Read().QueryContext(ctx, `select did, repository, digest, uri from hold_manifest order by did, repository, digest`)
	if err != nil {
		return fmt.Errorf("read metadata: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	enc := json.NewEncoder(w)
	for rows.Next() {
		var n pushed
		if err := rows.Scan(&n.DID, &n.Repository, &n.Digest, &n.URI); err != nil {
			return fmt.Errorf("read metadata: %w", sqlx.Wrap(err))
		}
		if err := enc.Encode(n); err != nil {
			return err
		}
	}
	return sqlx.Wrap(rows.Err())
}

// ReadManifests restores what [WriteManifests] wrote. Rows that are there already stay.
func ReadManifests(ctx context.Context, db *sqlx.DB, r io.Reader) error {
	tx, err := db.Write().BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("write metadata: %w", sqlx.Wrap(err))
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
	dec := json.NewDecoder(r)
	for line := 1; ; line++ {
		var n pushed
		if err := dec.Decode(&n); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("metadata, line %d: %w", line, err)
		}
		_, err := tx.ExecContext(ctx, `insert into hold_manifest (did, repository, digest, uri) values ($1, $2, $3, $4)
			on conflict do nothing`, n.DID, n.Repository, n.Digest, n.URI)
		if err != nil {
			return fmt.Errorf("write metadata: %w", sqlx.Wrap(err))
		}
	}
	return sqlx.Wrap(tx.Commit())
}
