package appview

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/logs"
	"github.com/atcr-dev/atcr/registry/pds"
	"github.com/atcr-dev/atcr/sqldb"
)

// Config says what an AppView is. Dir and DefaultHold are required; the rest has defaults.
type Config struct {
	// Dir is the folder of the AppView's data; it is made when missing, mode 0700.
	Dir string
	// DB has every table of the AppView, auth_…, oauth_…, pds_… and web_…, which are migrated; nil: a SQLite file, DatabasePath. Keys stay
	// in Dir, which is locked in either case. The first start with a DB copies the rows of the file there, in one transaction, and renames
	// it to ….moved; rows on both sides are refused. In PostgreSQL a second server on the same schema is refused after 30 s, naming the
	// first; Run ends when that lock is lost to another. The caller's is not closed.
	DB *sqldb.DB
	// DatabasePath is the SQLite file that DB stands for; empty: appview.db in Dir.
	DatabasePath string
	// KeyPath and CertPath are the RSA key that signs registry tokens and its certificate; they are made when missing.
	// Empty: auth/private-key.pem and auth/private-key.crt in Dir. The key that encrypts sessions and grants lies beside the first.
	KeyPath, CertPath string

	// Addr is what New binds and Run serves ("127.0.0.1:5000"); empty: Run listens nowhere and Handler is mounted by the caller.
	Addr string
	// TrustedProxies are the networks of reverse proxies in front: from their addresses alone X-Forwarded-For is believed. Limits and logs
	// then count the client that it names; the proxy itself has no limit of connections. Empty: whoever connects is the client.
	TrustedProxies []netip.Prefix
	// BaseURL is where clients reach the AppView; empty: see the package comment.
	BaseURL string
	// DefaultHold is the DID of the hold for layers of owners whose profile names none.
	DefaultHold string
	// Redirect says how layers are given to clients; empty is pds.RedirectAuto.
	Redirect pds.Redirect
	// AcceptKey is identity.Config's, for the AppView's own did:web.
	AcceptKey bool
	// SparseIndexes takes an index whose children are not all there: see registry.Options.
	SparseIndexes bool
	// AllowAccountPassword lets people sign in with their main password. Otherwise they are told how to make an app password.
	AllowAccountPassword bool
	// WebAppPassword lets people sign in to the pages by an app password, too. Always true under TestMode.
	WebAppPassword bool
	// OAuthKeyPath is the file of the keys of the OAuth client, made when missing; empty: oauth/client.key in Dir.
	OAuthKeyPath string
	// Name is the AppView's on its pages, and where accounts' servers ask for consent; empty is "AT Container Registry".
	Name string
	// Company runs it, by the law of Jurisdiction: for the pages /privacy and /terms. They say so when they are empty.
	Company, Jurisdiction string
	// ServeStale is how long manifests seen before are served while their owner's PDS is silent; 0 is 7 days.
	ServeStale time.Duration
	// OwnerRecords, OwnerBytes and CopyBytes bound what is kept of the records of one owner, and of all; 0: see pds.Options.
	OwnerRecords, OwnerBytes, CopyBytes int64
	// Verify says when owners' records must be proved by their signed repositories; empty is pds.VerifySampled.
	Verify pds.Verify

	// TestMode allows http and loopback, and names with ports; it also allows account passwords. Never on the public network.
	TestMode bool
	// AllowNetworks are private networks whose servers may be asked (of PDSes, holds, handles and the directory), also by plain http,
	// which carries no token.
	AllowNetworks []netip.Prefix
	// PLCURL is the did:plc directory; empty is the public one.
	PLCURL string
	// HandleResolverURL is a PDS that is asked for handles first.
	HandleResolverURL string

	// Directory looks up accounts and holds; nil: identity.NewResolver with the address guard.
	Directory identity.Directory
	// HTTP asks PDSes and holds, whose addresses are untrusted, and streams layers: it has no timeout of its own.
	// nil: a client with the address guard.
	HTTP *http.Client
	// Clock; nil is time.Now.
	Clock func() time.Time
	// Log; nil is slog.Default(). Lines that repeat are counted, not written: of one message 20 at once, then one in two seconds, with
	// the number of those left out. Of what a client or another server does wrong none is an error.
	Log *slog.Logger
}

// check fills in defaults and names what is wrong.
func (c *Config) check() error {
	if c.Dir == "" {
		return errors.New("appview: Dir is missing: name a folder for its data")
	}
	if c.DefaultHold == "" {
		return errors.New("appview: DefaultHold is missing: give the DID of a hold (server.default_hold_did)")
	}
	did, err := identity.NormalizeDID(c.DefaultHold)
	if err != nil {
		return fmt.Errorf("appview: DefaultHold %q: %w", c.DefaultHold, err)
	}
	c.DefaultHold = did.String()
	if c.BaseURL != "" {
		u, err := url.Parse(c.BaseURL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" {
			return fmt.Errorf("appview: BaseURL %q: give scheme and host, like https://registry.example.com", c.BaseURL)
		}
		c.BaseURL = u.Scheme + "://" + strings.ToLower(u.Host)
	}
	if err := c.checkAsked(); err != nil {
		return err
	}
	if err := httpx.CheckProxies(c.TrustedProxies); err != nil {
		return fmt.Errorf("appview: TrustedProxies: %w", err)
	}
	if c.DatabasePath == "" {
		c.DatabasePath = filepath.Join(c.Dir, "appview.db")
	}
	if c.KeyPath == "" {
		c.KeyPath = filepath.Join(c.Dir, "auth", "private-key.pem")
	}
	if c.CertPath == "" {
		c.CertPath = filepath.Join(c.Dir, "auth", "private-key.crt")
	}
	if c.OAuthKeyPath == "" {
		c.OAuthKeyPath = filepath.Join(c.Dir, "oauth", "client.key")
	}
	c.Name = cmp.Or(c.Name, "AT Container Registry")
	if c.Clock == nil {
		c.Clock = time.Now
	}
	c.Log = logs.New(c.Log)
	return nil
}

// guard says which addresses may be asked: beyond the public internet those that the configuration names.
func (c *Config) guard() httpx.Guard {
	g := httpx.Guard{Allow: c.AllowNetworks}
	if c.TestMode {
		g.Loopback = true
		g.Hosts = httpx.HostsOf(c.BaseURL, c.PLCURL, c.HandleResolverURL)
	}
	return g
}

// checkAsked refuses servers that the address guard never lets the default Directory ask.
func (c *Config) checkAsked() error {
	if c.Directory != nil {
		return nil
	}
	guard := c.guard()
	err := cmp.Or(guard.CheckServer("PLCURL", c.PLCURL), guard.CheckServer("HandleResolverURL", c.HandleResolverURL))
	if err != nil {
		return fmt.Errorf("appview: %w", err)
	}
	return nil
}
