package datadir

import (
	"errors"
	"log/slog"
	"time"

	"github.com/atcr-dev/atcr/hold/internal/disk"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/storage"
)

// ErrLocked: another process has the folder; the error's text names its pid.
var ErrLocked = durable.ErrLocked

// Config says where a hold's data lie. hold.Config.DataDir returns it filled in; Dir and Identity are required.
type Config struct {
	// Dir is the data folder.
	Dir string
	// Identity is what the hold's identity is loaded or created by; an empty Dir is the data folder.
	Identity identity.Config
	// DB has every table; nil: the SQLite files Dir/repo.db and Dir/hold.db. It is not closed.
	DB *sqldb.DB
	// Storage holds the layers; nil: a filestore in StoragePath. It is not closed.
	Storage storage.Store
	// StoragePath is the folder of the default storage; empty: Dir/blobs.
	StoragePath string

	// Clock; nil is time.Now.
	Clock func() time.Time
	// Log; nil is slog.Default().
	Log *slog.Logger
}

func (c *Config) fill() error {
	if c.Dir == "" {
		return errors.New("datadir: Dir is empty: name the data folder of the hold")
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Identity.Dir == "" {
		c.Identity.Dir = c.Dir
	}
	return nil
}

func (c *Config) places() disk.Places {
	return disk.Places{Dir: c.Dir, StoragePath: c.StoragePath, DB: c.DB, Clock: c.Clock, Log: c.Log}
}
