package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/filestore"
)

// Parts are what a hold is made of, for those who carry it away (hold/backup). They are for reading.
type Parts struct {
	// Dir is the data folder.
	Dir string
	// Repo is the repository: who may do what, and which layers are whose.
	Repo *repo.Repo
	// Identity is what package identity/backup exports by.
	Identity identity.Config
	// Layers are the blobs.
	Layers LayerReader

	notes   func(context.Context, io.Writer) error
	closers []func() error
}

// LayerReader reads blobs as a [storage.Store] does.
type LayerReader interface {
	Stat(ctx context.Context, d digest.Digest) (storage.Info, error)
	Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, storage.Info, error)
}

// WriteNotes writes what the hold knows beyond its repository and can't find out again, as lines of JSON: which manifests were
// pushed here, so that their pulls are counted. Uploads, leases and the index of layers are not among it.
func (p *Parts) WriteNotes(ctx context.Context, w io.Writer) error { return p.notes(ctx, w) }

// Close lets go of what [ReadParts] opened. Those of a running hold need no Close.
func (p *Parts) Close() error {
	var err error
	for i := len(p.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, p.closers[i]())
	}
	return err
}

// Parts of the running hold, good until Close.
func (s *Server) Parts() *Parts {
	return &Parts{
		Dir: s.cfg.Dir, Repo: s.repo, Identity: s.cfg.Identity, Layers: s.store,
		notes: func(ctx context.Context, w io.Writer) error { return writeNotes(ctx, s.db, w) },
	}
}

// ReadParts opens the parts of a hold for reading, stopped or beside its running server. A hold that was never started is
// fs.ErrNotExist. Close them.
func ReadParts(ctx context.Context, cfg Config) (_ *Parts, err error) {
	who, err := cfg.IdentityConfig()
	if err != nil {
		return nil, err
	}
	if _, err := checkRestored(cfg.Dir, time.Now()); err != nil {
		return nil, err
	}
	o, err := ReadRepo(ctx, cfg)
	if err != nil {
		return nil, err
	}
	p := &Parts{Dir: cfg.Dir, Repo: o.Repo, Identity: who, closers: []func() error{o.Close}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.Layers, err = cfg.LayerReader(); err != nil {
		return nil, err
	}
	db, err := cfg.openDatabase(ctx)
	if err != nil {
		return nil, fmt.Errorf("hold: database: %w", err)
	}
	p.closers = append(p.closers, db.Close)
	p.notes = func(ctx context.Context, w io.Writer) error { return writeNotes(ctx, db, w) }
	return p, nil
}

// LayerReader reads the hold's layers, also beside its running server.
func (c Config) LayerReader() (LayerReader, error) {
	if c.Storage != nil {
		return c.Storage, nil
	}
	return filestore.NewReader(c.storagePath(), nil)
}

func (c *Config) storagePath() string {
	if c.StoragePath != "" {
		return c.StoragePath
	}
	return filepath.Join(c.Dir, "blobs")
}

// note is a manifest that was pushed here.
type note struct {
	DID        string `json:"did"`
	Repository string `json:"repository"`
	Digest     string `json:"digest"`
	URI        string `json:"uri"`
}

func writeNotes(ctx context.Context, db *sqlx.DB, w io.Writer) error {
	rows, err := db.Read().QueryContext(ctx, `select did, repository, digest, uri from hold_manifest order by did, repository, digest`)
	if err != nil {
		return fmt.Errorf("read notes: %w", sqlx.Wrap(err))
	}
	defer rows.Close()
	enc := json.NewEncoder(w)
	for rows.Next() {
		var n note
		if err := rows.Scan(&n.DID, &n.Repository, &n.Digest, &n.URI); err != nil {
			return fmt.Errorf("read notes: %w", sqlx.Wrap(err))
		}
		if err := enc.Encode(n); err != nil {
			return err
		}
	}
	return sqlx.Wrap(rows.Err())
}

// readNotes brings notes back. Those that are there already stay.
func readNotes(ctx context.Context, db *sqlx.DB, r io.Reader) error {
	tx, err := db.Write().BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("write notes: %w", sqlx.Wrap(err))
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
	dec := json.NewDecoder(r)
	for line := 1; ; line++ {
		var n note
		if err := dec.Decode(&n); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("note %d: %w", line, err)
		}
		_, err := tx.ExecContext(ctx, `insert into hold_manifest (did, repository, digest, uri) values ($1, $2, $3, $4)
			on conflict do nothing`, n.DID, n.Repository, n.Digest, n.URI)
		if err != nil {
			return fmt.Errorf("write notes: %w", sqlx.Wrap(err))
		}
	}
	return sqlx.Wrap(tx.Commit())
}
