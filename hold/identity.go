package hold

import (
	"context"
	"time"

	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/hold/internal/disk"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/httpx"
)

const (
	identityWait  = 15 * time.Second // longest time that a start waits for the PLC directory
	identityEvery = 4 * time.Hour    // between looks at the directory
	identityLook  = time.Second      // between looks into the folder, for a key rotation that is asked for

	identityRetry     = time.Second // after a look that failed, doubled each time
	identityRetryMost = 10 * time.Minute
)

// DataDir returns where the hold's data lie, for programs that work on them without the server (hold/datadir, hold/backup). Its Identity
// is Config.Identity with all that New fills in. Errors are those of New for a configuration.
func (c Config) DataDir() (datadir.Config, error) {
	if err := c.check(); err != nil {
		return datadir.Config{}, err
	}
	if c.Identity.HTTP == nil {
		c.Identity.HTTP = httpx.NewClient(httpx.ClientOptions{
			Guard: c.guard(), Timeout: identityWait, PublicBodies: true, UserAgent: "atcr-hold",
		})
	}
	return datadir.Config{
		Dir: c.Dir, Identity: c.Identity, DB: c.DB, Storage: c.Storage, StoragePath: c.StoragePath, Clock: c.Clock, Log: c.Log,
	}, nil
}

func (c *Config) places() disk.Places {
	return disk.Places{Dir: c.Dir, StoragePath: c.StoragePath, DB: c.DB, Clock: c.Clock, Log: c.Log}
}

// guard opens what test mode and the operator open: the hosts of configured URLs, and private networks.
func (c *Config) guard() httpx.Guard {
	g := httpx.Guard{Loopback: c.TestMode, Allow: c.AllowNetworks}
	if c.TestMode {
		g.Hosts = httpx.HostsOf(c.PublicURL, c.PLCURL, c.HandleResolverURL)
	}
	return g
}

// CheckIdentity does once what New and [Server.Run] do: it completes key rotations that were requested or broken off, brings the
// directory's entry of a did:plc in line with the hold (identity.EnsurePLCCurrent), and announces to followers of the repository
// when something changed. While a rotation fails in a way that leaves open which key is the right one, the entry is left alone.
// Errors are those of plc.Manager.CompleteRotations and identity.EnsurePLCCurrent; the hold goes on after each.
func (s *Server) CheckIdentity(ctx context.Context) error { return s.keeper.check(ctx) }

// RotateSigningKey gives the running hold a new signing key: plc.Manager.Rotate, and then the document that it serves, an #identity
// event and all commits are by the new key; until the directory shows the new key, commits are signed by the old one. Service
// tokens and links that were given out stay good. It waits for a CheckIdentity that is under way.
//
// Errors: those of plc.Manager.Rotate. After one the old key may be in use, and the new one lie beside it: then [Server.Run],
// CheckIdentity, the next start or another call finish the rotation. When the directory has been seen to name the new key it is in
// use, also when its file could not get the old one's name, and whatever the repository does with the event, which is written
// before its next commit.
func (s *Server) RotateSigningKey(ctx context.Context, keyType string) (*plc.Plan, error) {
	return s.keeper.rotate(ctx, keyType)
}
