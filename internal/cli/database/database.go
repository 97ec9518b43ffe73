// Package database opens the database that a configuration names, for the commands.
package database

import (
	"context"
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/postgres"
)

// With runs f with the PostgreSQL database open that a configuration key names; without an address f is given nil, for the
// SQLite files in the data folder.
func With(ctx context.Context, key, address string, f func(*sqldb.DB) error) error {
	if address == "" {
		return f(nil)
	}
	db, err := postgres.Open(ctx, address)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return errors.Join(f(db), db.Close())
}
