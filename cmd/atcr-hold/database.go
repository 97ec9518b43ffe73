package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/postgres"
)

// withDatabase runs f with the database that database.url names open; without one f is given nil, for the files in the folder.
func withDatabase(ctx context.Context, c *config.Hold, f func(*sqldb.DB) error) error {
	if c.Database.URL == "" {
		return f(nil)
	}
	db, err := postgres.Open(ctx, c.Database.URL)
	if err != nil {
		return fmt.Errorf("database.url: %w", err)
	}
	return errors.Join(f(db), db.Close())
}
