package local

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

// blobTable says which repository has which blobs. Additions that wait at the same time share a transaction.
type blobTable struct {
	db       *sqlx.DB
	insert   *sql.Stmt
	has, any *sql.Stmt
	queue    chan *addition
	stop     chan struct{}
	done     chan struct{} // closed when write has ended
}

type addition struct {
	repository string
	digest     digest.Digest
	size       int64
	done       chan error
}

// maxGroup is how many additions share a transaction.
const maxGroup = 256

func newBlobTable(ctx context.Context, db *sqlx.DB) (*blobTable, error) {
	t := &blobTable{db: db, queue: make(chan *addition), stop: make(chan struct{}), done: make(chan struct{})}
	for _, p := range []struct {
		stmt  **sql.Stmt
		pool  *sql.DB
		query string
	}{
		{&t.insert, db.Write(), `insert into local_blob (digest, repository, size) values ($1, $2, $3)
			on conflict (digest, repository) do nothing`},
		{&t.has, db.Read(), `select size from local_blob where digest = $1 and repository = $2`},
		{&t.any, db.Read(), `select size from local_blob where digest = $1 limit 1`},
	} {
		stmt, err := p.pool.PrepareContext(ctx, p.query)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("prepare the table of blobs: %w", sqlx.Wrap(err)), t.closeStatements())
		}
		*p.stmt = stmt
	}
	go t.write()
	return t, nil
}

func (t *blobTable) close() error {
	close(t.stop)
	<-t.done
	return t.closeStatements()
}

func (t *blobTable) closeStatements() (err error) {
	for _, stmt := range []*sql.Stmt{t.insert, t.has, t.any} {
		if stmt != nil {
			err = errors.Join(err, stmt.Close())
		}
	}
	return err
}

// add is durable when it returns nil. It does not end with a request: what was uploaded is not to be lost to a client that
// has gone. Errors: registry.ErrUnavailable after close.
func (t *blobTable) add(repository string, d digest.Digest, size int64) error {
	a := &addition{repository, d, size, make(chan error, 1)}
	select {
	case t.queue <- a:
		return <-a.done
	case <-t.done:
		return registry.ErrUnavailable.With("the registry is closed")
	}
}

// write is the goroutine that adds.
func (t *blobTable) write() {
	defer close(t.done)
	for {
		select {
		case a := <-t.queue:
			t.writeGroup(a)
		case <-t.stop:
			return
		}
	}
}

// writeGroup adds first and all that come until its COMMIT.
func (t *blobTable) writeGroup(first *addition) {
	group := []*addition{first}
	err := sqlx.InTx(context.Background(), t.db.Write(), func(tx *sql.Tx) error {
		insert := tx.Stmt(t.insert)
		for i := 0; i < len(group); i++ {
			if _, err := insert.Exec(group[i].digest.String(), group[i].repository, group[i].size); err != nil {
				return err
			}
			if i+1 < len(group) || len(group) == maxGroup {
				continue
			}
			select {
			case a := <-t.queue:
				group = append(group, a)
			default:
			}
		}
		return nil
	})
	for _, a := range group {
		a.done <- err
	}
}

// size returns the size of a blob that the repository has, and whether it has it.
func (t *blobTable) size(ctx context.Context, repository string, d digest.Digest) (int64, bool, error) {
	return one(t.has.QueryRowContext(ctx, d.String(), repository))
}

// anywhere is size for any repository.
func (t *blobTable) anywhere(ctx context.Context, d digest.Digest) (int64, bool, error) {
	return one(t.any.QueryRowContext(ctx, d.String()))
}

func one(row *sql.Row) (size int64, found bool, err error) {
	err = row.Scan(&size)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return size, err == nil, sqlx.Wrap(err)
}

// remove takes a blob from a repository: whether it had it, and whether none has it now.
func (t *blobTable) remove(ctx context.Context, repository string, d digest.Digest) (had, last bool, err error) {
	err = sqlx.InTx(ctx, t.db.Write(), func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `delete from local_blob where digest = $1 and repository = $2`, d.String(), repository)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		_, others, err := one(tx.QueryRowContext(ctx, `select size from local_blob where digest = $1 limit 1`, d.String()))
		had, last = n > 0, !others
		return err
	})
	return had, last, err
}
