package config

import (
	"cmp"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// AppView is the configuration of atcr-appview.
type AppView struct {
	Version  string `key:"version" doc:"Version of this file's layout."`
	LogLevel string `key:"log_level" doc:"How much is logged, on standard error: debug, info, warn or error."`

	Server           AppViewServer    `key:"server" doc:"Where the AppView is, and the hold it uses by default."`
	UI               UI               `key:"ui" doc:"Database and pages."`
	Auth             Auth             `key:"auth" doc:"Sign-in and registry tokens."`
	Registry         Registry         `key:"registry" doc:"How images are served."`
	PDS              PDS              `key:"pds" doc:"What owners' PDSes are believed, and for how long while they are silent."`
	Network          Network          `key:"network" doc:"Private networks."`
	Jetstream        Jetstream        `key:"jetstream" unbuilt:"true" doc:"The index of the network that search and pages read."`
	Health           Health           `key:"health" unbuilt:"true" doc:"Checks whether holds answer."`
	LogShipper       LogShipper       `key:"log_shipper" unbuilt:"true" doc:"Sends logs elsewhere."`
	Legal            Legal            `key:"legal" doc:"Text on the pages /terms and /privacy."`
	CredentialHelper CredentialHelper `key:"credential_helper" unbuilt:"true" doc:"Where the page /install sends people."`
}

// AppViewServer is the section server.
type AppViewServer struct {
	Listener
	BaseURL           string   `key:"base_url" doc:"Where clients reach the AppView, as in https://registry.example.com. Every URL and token names it. Empty: requests by a loopback name or the listening address are answered, all others refused."`
	DefaultHoldDID    string   `key:"default_hold_did" doc:"REQUIRED. The hold for layers of owners who chose none, as in did:web:hold.example.com."`
	TestMode          bool     `key:"test_mode" doc:"Allows http, loopback addresses and names with ports, for development on one machine. Refused when base_url is https or a public name."`
	PLCDirectoryURL   string   `key:"plc_directory_url" doc:"The directory of did:plc identities."`
	HandleResolverURL string   `key:"handle_resolver_url" doc:"A PDS that is asked for handles first, for private networks. Empty: DNS and HTTPS only."`
	OAuthKeyPath      string   `key:"oauth_key_path" doc:"Keys of the OAuth client, by which it proves to people's servers who it is; made when it is missing. Empty: oauth/client.key in the data folder."`
	ClientName        string   `key:"client_name" doc:"Name that people see on the pages, and when they sign in by OAuth."`
	ClientShortName   string   `key:"client_short_name" unbuilt:"true" doc:"Short form of it."`
	RegistryDomains   []string `key:"registry_domains" unbuilt:"true" doc:"Host names for pulling where they differ from base_url; the first is shown."`
}

// Listener is the part of the section server that both programs have.
type Listener struct {
	Addr           string   `key:"addr" doc:"Address to listen on."`
	TrustedProxies []string `key:"trusted_proxies" doc:"Networks of reverse proxies in front, as in [\"10.0.0.0/8\"]. From those alone X-Forwarded-For is believed, read from the right, so that limits and logs mean the client and not the proxy; Forwarded never is. Empty: whoever connects is the client."`
}

// UI is the section ui.
type UI struct {
	DatabasePath       string        `key:"database_path" doc:"The SQLite file; its folder is the AppView's data folder."`
	DatabaseURL        string        `key:"database_url" secret:"true" doc:"A PostgreSQL database for every table, as in postgres://user:password@host/database?sslmode=verify-full; best given by the environment. The first start with it copies what the file of database_path holds, and renames that. Keys stay in the folder. Empty: the file."`
	Theme              string        `key:"theme" unbuilt:"true" doc:"Look of the pages."`
	LibSQLSyncURL      string        `key:"libsql_sync_url" unbuilt:"true" doc:"A libSQL server to keep a copy at."`
	LibSQLAuthToken    string        `key:"libsql_auth_token" unbuilt:"true" secret:"true" doc:"Token for it."`
	LibSQLSyncInterval time.Duration `key:"libsql_sync_interval" unbuilt:"true" doc:"How often."`
}

// Auth is the section auth.
type Auth struct {
	KeyPath              string `key:"key_path" doc:"RSA key that signs registry tokens; made when it is missing."`
	CertPath             string `key:"cert_path" doc:"Its certificate; made when it is missing."`
	AllowAccountPassword bool   `key:"allow_account_password" doc:"Lets people sign in with the main password of their account. Otherwise they are told how to make an app password. Always true under test_mode."`
	WebAppPassword       bool   `key:"web_app_password" doc:"Lets people sign in to the pages by an app password, too, as for accounts whose server has no OAuth. Always true under test_mode."`
}

// Registry is the section registry.
type Registry struct {
	Redirect      string `key:"redirect" doc:"auto sends clients to the hold for layers; never carries the bytes through the AppView."`
	SparseIndexes bool   `key:"sparse_indexes" doc:"Takes an index (an image for several platforms) whose images are not all there, as tools make that copy one platform. Otherwise each image must have been pushed before."`
}

// PDS is the section pds.
type PDS struct {
	ServeStale   time.Duration `key:"serve_stale" doc:"How long images seen before are served from memory of them while their owner's PDS is silent."`
	OwnerRecords int           `key:"owner_records" doc:"How many records of one owner are kept, tags and manifests. An owner who has more is refused (403)."`
	OwnerBytes   int           `key:"owner_bytes" doc:"About how many bytes of the database one owner's records may take. An owner whose take more is refused (403)."`
	CopyBytes    int           `key:"copy_bytes" doc:"About how many bytes all owners' records may take together. Those that were asked for least recently go first, and are listed again when somebody asks."`
	Verify       string        `key:"verify" doc:"When an owner's records must be proved by the owner's signed repository before an image is served. sampled: at one pull a second of an owner at most; what can't be proved passes, what is disproved is refused. always: what can't be proved is refused, too, as is every image of a PDS without com.atproto.sync.getRecord. never: the PDS is believed."`
}

// Network is the section network.
type Network struct {
	Allow []string `key:"allow" doc:"Private networks whose servers (of PDSes, holds, handles and the directory) may be asked, as in [\"10.0.0.0/8\"], also by plain http, which carries no token. Empty: public addresses only."`
}

// Jetstream is the section jetstream.
type Jetstream struct {
	URLs            []string      `key:"urls" doc:"Jetstream servers, tried in this order."`
	BackfillEnabled bool          `key:"backfill_enabled" doc:"Reads what was written before the index began."`
	RelayEndpoints  []string      `key:"relay_endpoints" doc:"Relays that say who has records."`
	Interval        time.Duration `key:"backfill_interval" doc:"How often that is repeated; 0 is once."`
}

// Health is the section health.
type Health struct {
	CheckInterval time.Duration `key:"check_interval" doc:"How often holds are asked."`
	CacheTTL      time.Duration `key:"cache_ttl" doc:"How long an answer holds."`
}

// LogShipper is the section log_shipper of both programs.
type LogShipper struct {
	Backend       string        `key:"backend" doc:"victoria, opensearch or loki; empty is off."`
	URL           string        `key:"url" doc:"Its address."`
	BatchSize     int           `key:"batch_size" doc:"Lines in one request."`
	FlushInterval time.Duration `key:"flush_interval" doc:"Longest wait of a line."`
	Username      string        `key:"username" doc:"Basic authentication."`
	Password      string        `key:"password" secret:"true" doc:"Basic authentication."`
}

// Legal is the section legal.
type Legal struct {
	CompanyName  string `key:"company_name" doc:"Who runs this AppView."`
	Jurisdiction string `key:"jurisdiction" doc:"Whose law applies."`
}

// CredentialHelper is the section credential_helper.
type CredentialHelper struct {
	DownloadURL string `key:"download_url" doc:"Where releases of docker-credential-atcr lie."`
}

// DefaultAppView is the configuration before file and environment.
func DefaultAppView() *AppView {
	c := &AppView{Version: "0.1", LogLevel: "info"}
	c.Server.Addr = ":5000"
	c.Server.PLCDirectoryURL = plcDirectory
	c.Server.ClientName, c.Server.ClientShortName = "AT Container Registry", "ATCR"
	c.UI.DatabasePath = "/var/lib/atcr/ui.db"
	c.Auth.KeyPath = "/var/lib/atcr/auth/private-key.pem"
	c.Auth.CertPath = "/var/lib/atcr/auth/private-key.crt"
	c.Registry.Redirect = "auto"
	c.PDS.ServeStale, c.PDS.Verify = 7*24*time.Hour, "sampled"
	c.PDS.OwnerRecords, c.PDS.OwnerBytes, c.PDS.CopyBytes = 250_000, 256<<20, 4<<30
	c.Jetstream.BackfillEnabled = true
	c.Jetstream.URLs = []string{"wss://jetstream2.us-east.bsky.network/subscribe"}
	c.Jetstream.RelayEndpoints = []string{"https://relay1.us-east.bsky.network"}
	c.Health.CheckInterval, c.Health.CacheTTL = 15*time.Minute, 15*time.Minute
	c.LogShipper = defaultLogShipper()
	return c
}

func defaultLogShipper() LogShipper {
	return LogShipper{BatchSize: 100, FlushInterval: 5 * time.Second}
}

// plcDirectory is the public directory.
const plcDirectory = "https://plc.directory"

// DataDir is the folder of the AppView's data.
func (c *AppView) DataDir() string { return filepath.Dir(c.UI.DatabasePath) }

// OAuthKey is server.oauth_key_path, or the file in the data folder that it stands for.
func (c *AppView) OAuthKey() string {
	return cmp.Or(c.Server.OAuthKeyPath, filepath.Join(c.DataDir(), "oauth", "client.key"))
}

// Prefixes is network.allow, parsed.
func (n Network) Prefixes() []netip.Prefix { return prefixes(n.Allow) }

// Proxies is server.trusted_proxies, parsed.
func (s Listener) Proxies() []netip.Prefix { return prefixes(s.TrustedProxies) }

func prefixes(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range list {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

func (s Listener) check(p *problems) {
	p.addr("server.addr", s.Addr)
	p.proxies("server.trusted_proxies", s.TrustedProxies)
}

func (n Network) check(p *problems) { p.networks("network.allow", n.Allow) }

func (c *AppView) check() []problem {
	var p problems
	p.logLevel(c.LogLevel)
	c.Server.Listener.check(&p)
	p.url("server.base_url", c.Server.BaseURL, false)
	p.testMode(c.Server.TestMode, "server.base_url", c.Server.BaseURL)
	switch {
	case c.Server.DefaultHoldDID == "":
		p.add("server.default_hold_did", "is required: set it, or %s, to the DID of a hold, as in did:web:hold.example.com",
			EnvName(AppViewPrefix, "server.default_hold_did"))
	case !strings.HasPrefix(c.Server.DefaultHoldDID, "did:"):
		p.add("server.default_hold_did", "%q is no DID: write did:web:hold.example.com", c.Server.DefaultHoldDID)
	}
	p.asked("server.plc_directory_url", c.Server.PLCDirectoryURL, true, c.Server.TestMode, c.Network.Prefixes())
	p.asked("server.handle_resolver_url", c.Server.HandleResolverURL, false, c.Server.TestMode, c.Network.Prefixes())
	p.required("ui.database_path", c.UI.DatabasePath)
	p.database("ui.database_url", c.UI.DatabaseURL)
	p.required("auth.key_path", c.Auth.KeyPath)
	p.required("auth.cert_path", c.Auth.CertPath)
	p.oneOf("registry.redirect", c.Registry.Redirect, "auto", "never")
	p.oneOf("pds.verify", c.PDS.Verify, "sampled", "always", "never")
	p.atLeast("pds.owner_records", c.PDS.OwnerRecords, 1)
	p.atLeast("pds.owner_bytes", c.PDS.OwnerBytes, 1<<20)
	p.atLeast("pds.copy_bytes", c.PDS.CopyBytes, c.PDS.OwnerBytes)
	c.Network.check(&p)
	return p
}
