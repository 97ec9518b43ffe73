package oauth

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/internal/seal"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb"
)

//go:embed migrations
var migrations embed.FS

// Migrate creates the tables oauth_… in a database, or brings those of an earlier version to this one. [New] does it by itself.
func Migrate(ctx context.Context, db *sqldb.DB) error {
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return sqlx.Migrate(ctx, db, folder, "oauth_version")
}

// store keeps requests and grants.
type store struct {
	db   *sqlx.DB
	seal *seal.Keys
}

// bind joins what a secret belongs to: parts of a fixed number, none of which holds a NUL.
func bind(kind string, parts ...string) []byte {
	return []byte("1\x00" + kind + "\x00" + strings.Join(parts, "\x00"))
}

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// putRequest keeps what a sign-in needs when the browser comes back, under its state and bound to the browser.
func (s *store) putRequest(ctx context.Context, state, browser string, plain []byte, expires time.Time) error {
	key, who := hashOf(state), hashOf(browser)
	_, err := s.db.Write().ExecContext(ctx, `insert into oauth_request (state_hash, browser_hash, sealed, expires_at) values ($1, $2, $3, $4)`,
		key, who, s.seal.Seal(bind("request", key, who), plain), expires.Unix())
	if err != nil {
		return fmt.Errorf("storing a sign-in: %w", sqlx.Wrap(err))
	}
	return nil
}

// takeRequest returns what putRequest was given, once: of several calls one gets it. It is nil when there is none, it is over, it is
// another browser's (which then can still take it), or it was sealed under a key that is gone.
func (s *store) takeRequest(ctx context.Context, state, browser string, now time.Time) (plain []byte, err error) {
	key, who := hashOf(state), hashOf(browser)
	var sealed []byte
	var expires int64
	err = s.db.Write().QueryRowContext(ctx, `delete from oauth_request where state_hash = $1 and browser_hash = $2
		returning sealed, expires_at`, key, who).Scan(&sealed, &expires)
	if errors.Is(err, sql.ErrNoRows) || err == nil && now.Unix() >= expires {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a sign-in: %w", sqlx.Wrap(err))
	}
	plain, _, err = s.seal.Open(bind("request", key, who), sealed)
	if errors.Is(err, seal.ErrSealed) {
		return nil, nil
	}
	return plain, err
}

// dropRequests deletes those that are over.
func (s *store) dropRequests(ctx context.Context, now time.Time) error {
	_, err := s.db.Write().ExecContext(ctx, `delete from oauth_request where expires_at <= $1`, now.Unix())
	return sqlx.Wrap(err)
}
