package hold

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/repo"
)

const repoFile = "repo.db" // in Config.Dir

const (
	identityWait  = 15 * time.Second // longest time that a start waits for the PLC directory
	identityEvery = 4 * time.Hour    // between looks at the directory
	identityLook  = time.Second      // between looks into the folder, for a key rotation that is asked for

	identityRetry     = time.Second // after a look that failed, doubled each time
	identityRetryMost = 10 * time.Minute
)

// IdentityConfig answers what package identity is asked with, for programs that look after a hold's identity while it is
// stopped: Identity with all that New fills in. Errors are those of New for a configuration.
func (c Config) IdentityConfig() (identity.Config, error) {
	if err := c.check(); err != nil {
		return identity.Config{}, err
	}
	if c.Identity.HTTP == nil {
		c.Identity.HTTP = httpx.NewClient(httpx.ClientOptions{Guard: c.guard(), Timeout: identityWait, UserAgent: "atcr-hold"})
	}
	return c.Identity, nil
}

// guard opens what test mode and the operator open: the hosts of configured URLs, and private networks.
func (c *Config) guard() httpx.Guard {
	g := httpx.Guard{Loopback: c.TestMode, Allow: c.AllowNetworks}
	if c.TestMode {
		g.Hosts = httpx.HostsOf(c.PublicURL, c.PLCURL, c.HandleResolverURL)
	}
	return g
}

// AnnounceIdentity writes to the repository of a hold that is stopped what followers must see after its DID document has
// changed: an #identity event, and when the signing key is new a commit by it. Call it while holding Dir's lock. A hold
// that has no repository yet has no followers.
func AnnounceIdentity(ctx context.Context, cfg Config, id *identity.Identity) (err error) {
	if _, err := os.Stat(filepath.Join(cfg.Dir, repoFile)); cfg.DatabaseURL == "" && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	store, done, err := cfg.openStore(ctx, 0)
	if err != nil {
		return fmt.Errorf("announce the identity: %w", err)
	}
	defer func() { err = errors.Join(err, done()) }()
	if _, err := store.Read(ctx).Head(); errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	r, err := repo.Open(ctx, store, repo.Options{DID: id.DID.String(), Key: id.Key, Clock: cfg.Clock, Log: cfg.Log})
	if err != nil {
		return fmt.Errorf("announce the identity: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	signed, err := r.Signed(ctx)
	if err != nil {
		return err
	}
	if signed {
		return r.Announce(ctx, id.Handle.String())
	}
	_, err = r.Resign(ctx, id.Handle.String())
	return err
}
