package sqlx

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// ErrServiceLocked: another process runs the service on this database. The text names it by host and process.
var ErrServiceLocked = errors.New("another process runs this service on the database")

const (
	// LockWait is how long a server waits for the one before it to be gone.
	LockWait = 30 * time.Second
	lockLook = 5 * time.Second        // between looks whether the lock is still ours
	lockPoll = 200 * time.Millisecond // between tries to get it
)

// ServiceLock is an advisory lock for a service in a schema of PostgreSQL: one server at a time works there. It lasts as long as the
// connection that has it, which is one of the reading pool. On SQLite, where the data folder is locked, it does nothing.
type ServiceLock struct {
	db      *DB
	service string
	wait    time.Duration

	mu   sync.Mutex
	conn *sql.Conn
}

// LockService takes the lock of a service, and waits so long for another process to give it back; [LockWait] is right for servers. Close
// it. Errors: [ErrServiceLocked].
func LockService(ctx context.Context, db *DB, service string, wait time.Duration) (*ServiceLock, error) {
	l := &ServiceLock{db: db, service: service, wait: wait}
	if db.Dialect() != Postgres {
		return l, nil
	}
	return l, l.take(ctx)
}

const lockKey = `hashtextextended('atcr service ' || current_schema() || ' ' || $1, 0)`

func (l *ServiceLock) take(ctx context.Context) (err error) {
	conn, err := l.db.Read().Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", Wrap(err))
	}
	defer func() {
		if err != nil {
			discard(conn)
		}
	}()
	host, _ := os.Hostname() // a name for people; none is no reason to stop
	name := fmt.Sprintf("atcr %s, process %d on %s", l.service, os.Getpid(), host)
	if _, err := conn.ExecContext(ctx, `select set_config('application_name', $1, false)`, name); err != nil {
		return Wrap(err)
	}
	until := time.NewTimer(l.wait)
	defer until.Stop()
	for {
		var ours bool
		if err := conn.QueryRowContext(ctx, `select pg_try_advisory_lock(`+lockKey+`)`, l.service).Scan(&ours); err != nil {
			return fmt.Errorf("lock the service: %w", Wrap(err))
		}
		if ours {
			l.mu.Lock()
			l.conn = conn
			l.mu.Unlock()
			return nil
		}
		select {
		case <-until.C:
			return l.refused(ctx, conn)
		case <-ctx.Done():
			return errors.Join(l.refused(context.WithoutCancel(ctx), conn), ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}

// refused names who has the lock.
func (l *ServiceLock) refused(ctx context.Context, conn *sql.Conn) error {
	var who, where string
	err := conn.QueryRowContext(ctx, `select coalesce((select a.application_name from pg_locks l join pg_stat_activity a using (pid)
		where l.locktype = 'advisory' and l.granted and l.database = (select oid from pg_database where datname = current_database())
			and (l.classid::bigint << 32 | l.objid::bigint) = `+lockKey+` limit 1), ''),
		'schema ' || current_schema() || ' of database ' || current_database()`, l.service).Scan(&who, &where)
	if err != nil {
		return fmt.Errorf("%w: who it is can't be found out: %w", ErrServiceLocked, Wrap(err))
	}
	return fmt.Errorf("%w: %s in %s; stop it, or name another schema or database", ErrServiceLocked, who, where)
}

// Keep looks after the lock until ctx ends, and returns nil then. When the connection was lost it takes the lock again; when somebody
// else has it by then it returns [ErrServiceLocked], and the server must stop.
func (l *ServiceLock) Keep(ctx context.Context) error {
	if l.db.Dialect() != Postgres {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(lockLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := l.look(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("the lock of the service was lost: %w", err)
		}
	}
}

// look takes the lock again if it was lost. A server that is away is waited for: without it nobody else gets the lock, either.
func (l *ServiceLock) look(ctx context.Context) error {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn != nil {
		soon, stop := context.WithTimeout(ctx, lockLook)
		_, err := conn.ExecContext(soon, `select 1`)
		if stop(); err == nil || ctx.Err() != nil {
			return nil
		}
		discard(conn)
		l.mu.Lock()
		l.conn = nil
		l.mu.Unlock()
	}
	if err := l.take(ctx); errors.Is(err, ErrServiceLocked) {
		return err
	}
	return nil
}

// Close gives the lock back.
func (l *ServiceLock) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		discard(l.conn) // the lock, and the name, go with the connection
		l.conn = nil
	}
	return nil
}

// discard closes a connection, in place of giving it back to its pool.
func discard(conn *sql.Conn) {
	conn.Raw(func(any) error { return driver.ErrBadConn }) //nolint:errcheck // it is what is asked for
	conn.Close()                                           //nolint:errcheck // as above
}
