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
	identityRetry = time.Second      // after one that failed, doubled each time
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

// CheckIdentity does once what New and [Server.Run] do for a did:plc: it brings the directory's entry in line with the hold
// (identity.EnsurePLCCurrent) and tells followers of the repository when something changed. Errors are those of
// EnsurePLCCurrent; the hold goes on after each.
func (s *Server) CheckIdentity(ctx context.Context) error {
	status, err := identity.EnsurePLCCurrent(ctx, s.id, s.cfg.Identity)
	if status != nil && status.Updated {
		s.announce.Store(true)
	}
	if s.repo != nil && s.announce.Swap(false) {
		if aerr := s.repo.Announce(ctx, s.id.Handle.String()); aerr != nil {
			s.announce.Store(true)
			err = errors.Join(err, aerr)
		}
	}
	return err
}

// checkIdentityAtBoot goes on whatever the directory does, except when it says that the DID was given up.
func (s *Server) checkIdentityAtBoot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, identityWait)
	defer cancel()
	err := s.CheckIdentity(ctx)
	if errors.Is(err, identity.ErrPLCTombstone) {
		return fmt.Errorf("%w: undo it with a higher rotation key (atcr-hold identity recover, within 72 hours), or move the data folder away to start a new hold", err)
	}
	if err != nil {
		s.log.Warn("the hold's did:plc could not be checked; it goes on with what is on disk and tries again", "did", s.id.DID, "error", err)
	}
	s.unchecked = err != nil
	return nil
}

// signAnew writes what followers need when the signing key is not the one of the newest commit.
func (s *Server) signAnew(ctx context.Context) error {
	signed, err := s.repo.Signed(ctx)
	if err != nil || signed {
		if err == nil && s.announce.Swap(false) {
			err = s.repo.Announce(ctx, s.id.Handle.String())
		}
		return err
	}
	s.log.Warn("the signing key has changed: the identity is announced, and a commit signed by the new key follows", "did", s.id.DID)
	s.announce.Store(false)
	_, err = s.repo.Resign(ctx, s.id.Handle.String())
	return err
}

// keepIdentity looks at the directory now and then, and soon again while it fails, until ctx ends.
func (s *Server) keepIdentity(ctx context.Context) {
	if s.id.DID.Method() != "plc" {
		return
	}
	wait, retry := identityEvery, identityRetry
	if s.unchecked {
		wait = retry
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		switch err := s.CheckIdentity(ctx); {
		case err == nil:
			if retry > identityRetry || s.unchecked {
				s.log.Info("the hold's did:plc is checked", "did", s.id.DID)
			}
			wait, retry, s.unchecked = identityEvery, identityRetry, false
		case ctx.Err() != nil:
			return
		default:
			retry = min(2*retry, 10*time.Minute)
			wait = retry
			s.log.Warn("the hold's did:plc could not be checked", "did", s.id.DID, "again_in", wait, "error", err)
		}
	}
}
