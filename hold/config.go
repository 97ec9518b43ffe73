package hold

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/logs"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/storage"
)

// Config says what a hold is. Dir, PublicURL and OwnerDID are required; the rest has defaults.
type Config struct {
	// Dir is the folder of the hold's data; it is made when missing, mode 0700.
	Dir string
	// PublicURL is where others reach the hold: scheme and host. Without TestMode it is https, and a did:web takes no port.
	PublicURL string
	// Addr is what New binds and Run serves ("127.0.0.1:8080"); empty: Run listens nowhere and Handler is mounted by the caller.
	Addr string
	// TrustedProxies are the networks of reverse proxies in front: from their addresses alone X-Forwarded-For is believed. Limits and logs
	// then count the client that it names; the proxy itself has no limit of connections. Empty: whoever connects is the client.
	TrustedProxies []netip.Prefix

	// OwnerDID is the captain.
	OwnerDID string
	// Public lets everybody read layers.
	Public bool
	// AllowAllCrew lets everybody who signs in become crew (requestCrew), with blob:read and blob:write at most.
	AllowAllCrew bool
	// EnableBlueskyPosts stands in the captain record; posts are not built yet.
	EnableBlueskyPosts bool
	// Region and Successor stand in the captain record when not empty.
	Region, Successor string
	// Profile is how Bluesky's applications show the hold.
	Profile Profile
	// Crew is brought in line at start; members that it doesn't name are left alone.
	Crew []CrewMember

	// AppViewDID is the AppView that is trusted to set the tiers of the crew (io.atcr.hold.updateCrewTier), and nothing
	// else; empty is none.
	AppViewDID string
	// Tiers are the ranks that members may have, lowest first. Their quotas are not enforced yet.
	Tiers []Tier

	// TestMode allows http, loopback and ports in names. Never on the public network.
	TestMode bool
	// AllowNetworks are private networks whose servers may be asked (of PDSes, handles, relays and the directory), also by plain http,
	// which carries no token.
	AllowNetworks []netip.Prefix
	// RefuseLegacyTokens takes only service tokens made for the very method, once. Otherwise upstream's AppView is
	// understood too, which uses one token for a minute for uploads, notifyManifest and getBlob (logged and counted).
	RefuseLegacyTokens bool
	// NoRedirect makes getBlob return the bytes itself. Otherwise it sends readers to the storage's own address where it
	// has one, else to /blobs, so that an AppView need not carry them.
	NoRedirect bool

	// Identity: Dir, PublicURL, PLCURL, TestMode, Services, Clock and Log are filled in here when empty. Method "plc" makes a
	// did:plc for a new hold.
	Identity identity.Config
	// PLCURL is the did:plc directory that the default Directory asks, and that has the hold's own DID if that is a did:plc.
	PLCURL string
	// HandleResolverURL is a PDS that the default Directory asks for handles first.
	HandleResolverURL string
	// Directory looks up users; nil: identity.NewResolver with the address guard. The caller's is not closed.
	Directory identity.Directory
	// Storage keeps the layers; nil: a filestore in StoragePath. The caller's is not closed.
	Storage storage.Store
	// StoragePath is the folder of the default storage, not used beside Storage; empty: Dir/blobs.
	StoragePath string
	// DB has every table of the hold, hold_… and repo_…, which are migrated; nil: the SQLite files Dir/hold.db and Dir/repo.db. Keys,
	// spool and layers stay in Dir, which is locked in either case: the hold has one server. In PostgreSQL (package sqldb/postgres)
	// other processes may write the repository beside it, as datadir.OpenRepo does. The first start with a DB copies the rows of
	// the files there, in one transaction, and renames them to ….moved; rows on both sides are refused. A second server on the same
	// schema is refused after 30 s, naming the first; Run ends when that lock is lost to another. The caller's is not closed.
	DB *sqldb.DB
	// Repo is the hold's repository, signed by the key of its identity; nil: in DB or Dir/repo.db. The caller's is not closed.
	Repo *repo.Repo
	// HTTP asks users' PDSes; addresses are untrusted input. nil: a client with the address guard.
	HTTP *http.Client

	// Relays are asked by Run to follow the hold's firehose (com.atproto.sync.requestCrawl): at the start, and when
	// nobody follows it any more. URLs, as in https://bsky.network. Under TestMode only http ones are asked.
	Relays []string

	// Backup has the hold backed up by Run; nil: no backups.
	Backup *BackupSchedule

	// MaxPart bounds one part of an upload, in bytes; 0 is 1 GiB.
	MaxPart int64
	// MaxSpool bounds the parts that came before their turn, all uploads together, in bytes; 0 is 16 GiB. One account has a quarter of
	// it, and 1000 parts.
	MaxSpool int64
	// MaxCrew bounds the members that requestCrew may add up to; 0 is 100 000. When it is reached, members that came by it and have
	// nothing here make room.
	MaxCrew int

	// Clock returns the time; nil is time.Now.
	Clock func() time.Time
	// Log; nil is slog.Default(). Lines that repeat are counted, not written: of one message 20 at once, then one in two seconds, with
	// the number of those left out. Of what a client or another server does wrong none is an error.
	Log *slog.Logger
}

// CrewMember is a member that the configuration names.
type CrewMember struct {
	Member      string   // DID or handle
	Role        string   // empty is member
	Permissions []string // blob:read, blob:write, crew:admin
	Tier        string   // may be empty, and is written as it is, also when Config.Tiers has no such name
}

// check fills in defaults and refuses what can't work, naming the field and the remedy.
func (c *Config) check() error {
	if c.Dir == "" {
		return errors.New("hold: Dir is empty: name a folder for the hold's data")
	}
	u, err := url.Parse(c.PublicURL)
	switch {
	case c.PublicURL == "" || err != nil || u.Host == "":
		return fmt.Errorf("hold: PublicURL %q: want scheme and host, as in https://hold.example.com", c.PublicURL)
	case u.Scheme != "https" && !(c.TestMode && u.Scheme == "http"):
		return fmt.Errorf("hold: PublicURL %q: the scheme must be https (http under TestMode only)", c.PublicURL)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil:
		return fmt.Errorf("hold: PublicURL %q: only scheme and host are allowed", c.PublicURL)
	}
	if c.TestMode {
		if err := checkTestURL(u); err != nil {
			return fmt.Errorf("hold: PublicURL %q: %w", c.PublicURL, err)
		}
	}
	c.PublicURL = strings.ToLower(u.Scheme) + "://" + strings.ToLower(u.Host)
	owner, err := identity.NormalizeDID(c.OwnerDID)
	if err != nil {
		return fmt.Errorf("hold: OwnerDID %q: want the captain's DID, as in did:plc:…: %w", c.OwnerDID, err)
	}
	c.OwnerDID = owner.String()
	for i := range c.Crew {
		if err := c.Crew[i].check(); err != nil {
			return fmt.Errorf("hold: Crew[%d]: %w", i, err)
		}
	}
	if err := c.checkAppView(); err != nil {
		return err
	}
	if err := c.Profile.check(); err != nil {
		return err
	}
	if err := checkTiers(c.Tiers); err != nil {
		return err
	}
	if err := httpx.CheckProxies(c.TrustedProxies); err != nil {
		return fmt.Errorf("hold: TrustedProxies: %w", err)
	}
	for i, relay := range c.Relays {
		u, err := url.Parse(relay)
		switch {
		case err == nil && u.User != nil: // not shown: it may be a password
			return fmt.Errorf("hold: Relays[%d] has a user name or password in it, which no relay asks for: "+
				"name it as in https://bsky.network", i)
		case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
			return fmt.Errorf("hold: Relays[%d]: want an address, as in https://bsky.network", i)
		case c.TestMode && u.Scheme == "https": // never asked
			continue
		}
		guard := c.guard()
		if err := guard.CheckURL(relay); err != nil {
			return fmt.Errorf("hold: Relays[%d]: %w: it can't be asked. Name its network in AllowNetworks, or leave it out", i, err)
		}
	}
	if err := c.checkAsked(); err != nil {
		return err
	}
	if c.Successor != "" {
		if _, err := syntax.ParseDID(c.Successor); err != nil {
			return fmt.Errorf("hold: Successor %q: want a DID: %w", c.Successor, err)
		}
	}
	if err := c.Backup.check(); err != nil {
		return err
	}
	if len(c.Region) > 64 {
		return fmt.Errorf("hold: Region has %d bytes, at most 64 are allowed", len(c.Region))
	}
	c.defaults()
	return nil
}

// checkAsked refuses servers that the address guard never lets the default Directory ask.
func (c *Config) checkAsked() error {
	if c.Directory != nil {
		return nil
	}
	guard := c.guard()
	if err := guard.CheckServer("PLCURL", c.PLCURL); err != nil {
		return fmt.Errorf("hold: %w: %w", identity.ErrPLCForbidden, err)
	}
	if err := guard.CheckServer("HandleResolverURL", c.HandleResolverURL); err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	return nil
}

// checkTestURL keeps test mode off the public network.
func checkTestURL(u *url.URL) error {
	host := strings.ToLower(u.Hostname())
	ip, err := netip.ParseAddr(host)
	private := err == nil && (ip.IsLoopback() || ip.IsPrivate()) || host == "localhost" || strings.HasSuffix(host,
		".localhost") || strings.HasSuffix(host, ".test")
	if u.Scheme == "https" || !private {
		return errors.New("TestMode is for http on loopback, private addresses and .test names: turn it off on the public network")
	}
	return nil
}

func (c *Config) defaults() {
	if c.MaxPart <= 0 {
		c.MaxPart = 1 << 30
	}
	if c.MaxSpool <= 0 {
		c.MaxSpool = 16 << 30
	}
	if c.MaxCrew <= 0 {
		c.MaxCrew = 100_000
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	c.Log = logs.New(c.Log)
	id := &c.Identity
	if id.Dir == "" {
		id.Dir = c.Dir
	}
	if id.PublicURL == "" {
		id.PublicURL = c.PublicURL
	}
	if id.Services == nil {
		id.Services = identity.HoldServices()
	}
	if id.PLCURL == "" {
		id.PLCURL = c.PLCURL
	}
	if id.Clock == nil {
		id.Clock = c.Clock
	}
	id.TestMode = id.TestMode || c.TestMode
	if id.Log == nil {
		id.Log = c.Log
	}
}

func (m *CrewMember) check() error {
	if _, err := syntax.ParseAtIdentifier(m.Member); err != nil {
		if did, derr := identity.NormalizeDID(m.Member); derr == nil {
			m.Member = did.String()
		} else {
			return fmt.Errorf("member %q: want a DID or a handle: %w", m.Member, err)
		}
	}
	if m.Role == "" {
		m.Role = "member"
	}
	if len(m.Role) > 32 || len(m.Tier) > 32 {
		return fmt.Errorf("member %s: role and tier have at most 32 bytes", m.Member)
	}
	for _, p := range m.Permissions {
		if p != atcr.PermissionBlobRead && p != atcr.PermissionBlobWrite && p != atcr.PermissionCrewAdmin {
			return fmt.Errorf("member %s: permission %q: want %s, %s or %s", m.Member, p, atcr.PermissionBlobRead,
				atcr.PermissionBlobWrite, atcr.PermissionCrewAdmin)
		}
	}
	return nil
}

// host of the public URL, which is the hold's handle when it can be one.
func (c *Config) host() string {
	u, err := url.Parse(c.PublicURL)
	if err != nil {
		return ""
	}
	return u.Host
}
