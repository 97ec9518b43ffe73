package hold

import (
	"time"

	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/hold/internal/disk"
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
		c.Identity.HTTP = httpx.NewClient(httpx.ClientOptions{Guard: c.guard(), Timeout: identityWait, UserAgent: "atcr-hold"})
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
