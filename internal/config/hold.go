package config

import (
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Hold is the configuration of atcr-hold.
type Hold struct {
	Version  string `key:"version" doc:"Version of this file's layout."`
	LogLevel string `key:"log_level" doc:"How much is logged, on standard error: debug, info, warn or error."`

	Server       HoldServer   `key:"server" doc:"Where the hold is, and who may read it."`
	Registration Registration `key:"registration" doc:"Who owns the hold and who may write to it."`
	Storage      Storage      `key:"storage" doc:"Where layers lie."`
	Database     Database     `key:"database" doc:"The hold's own records."`
	Identity     Identity     `key:"identity" doc:"The hold's identity on the network. These keys are also read under database."`
	Backup       Backup       `key:"backup" doc:"Backups of identity, records and, if wanted, layers, made by the running hold. Also by hand: atcr-hold backup, atcr-hold restore."`
	Network      Network      `key:"network" doc:"Private networks."`
	Admin        Admin        `key:"admin" unbuilt:"true" doc:"The captain's web panel."`
	Quota        Quota        `key:"quota" doc:"Tiers of the crew. Their names are listed (io.atcr.hold.listTiers) and given to members; how much one may store is not limited yet."`
	GC           GC           `key:"gc" unbuilt:"true" doc:"Removes layers that no manifest names."`
	Scanner      Scanner      `key:"scanner" unbuilt:"true" doc:"Vulnerability scanners that connect to the hold."`
	Relays       Relays       `key:"relays" doc:"Relays that are asked to carry the hold's records. Not under test_mode, but for http ones."`
	LogShipper   LogShipper   `key:"log_shipper" unbuilt:"true" doc:"Sends logs elsewhere."`
}

// HoldServer is the section server.
type HoldServer struct {
	Listener
	PublicURL          string `key:"public_url" doc:"REQUIRED. Where others reach the hold, as in https://hold.example.com. A did:web identity is made of it."`
	Public             bool   `key:"public" doc:"Anyone may read layers without signing in. Manifests are public on the network in any case."`
	TestMode           bool   `key:"test_mode" doc:"Allows http, loopback addresses and names with ports, for development on one machine. Refused when public_url is https or a public name."`
	HandleResolverURL  string `key:"handle_resolver_url" doc:"A PDS that is asked for handles first, for private networks. Empty: DNS and HTTPS only."`
	AcceptLegacyTokens bool   `key:"accept_legacy_tokens" doc:"Takes the service tokens of older AppViews, which are not bound to one method and are used more than once. Never for deletions."`
	Redirect           bool   `key:"redirect" doc:"Sends readers of layers to an address of the storage where it has one. false: every byte goes through getBlob."`
	Region             string `key:"region" doc:"Where the hold stands, for its captain record."`
	Successor          string `key:"successor" doc:"DID of the hold that replaces this one, for its captain record."`
	AppViewDID         string `key:"appview_did" doc:"The AppView that is trusted to set the tiers of the crew, and nothing else, as in did:web:registry.example.com. Empty: none."`
	AppViewURL         string `key:"appview_url" unbuilt:"true" doc:"Its address."`
}

// Registration is the section registration.
type Registration struct {
	OwnerDID           string       `key:"owner_did" doc:"REQUIRED. DID of the captain, who may do everything."`
	AllowAllCrew       bool         `key:"allow_all_crew" doc:"Anyone who signs in may join the crew, and so store layers."`
	Crew               []CrewMember `key:"crew" doc:"Members that the hold brings in line when it starts; those it doesn't name here are left alone.\n  - member: alice.example.com   # or a DID\n    permissions: [blob:read, blob:write]   # also crew:admin\n    tier: deckhand" toml:"  {member = \"alice.example.com\", permissions = [\"blob:read\", \"blob:write\"], tier = \"deckhand\"}   # or a DID; also crew:admin"`
	EnableBlueskyPosts bool         `key:"enable_bluesky_posts" doc:"Announces pushes as posts. For the captain record; posts are not built yet."`
	ProfileName        string       `key:"profile_name" doc:"Name of the hold in Bluesky's applications, at most 64 characters."`
	ProfileDescription string       `key:"profile_description" doc:"What they say of it, at most 256 characters."`
	ProfileAvatarURL   string       `key:"profile_avatar_url" unbuilt:"true" doc:"Picture of the hold's profile."`
}

// CrewMember is an element of registration.crew.
type CrewMember struct {
	Member      string   `key:"member"`
	Role        string   `key:"role"`
	Permissions []string `key:"permissions"`
	Tier        string   `key:"tier"`
}

// Storage is the section storage.
type Storage struct {
	Driver    string `key:"driver" doc:"file: a folder on this machine."`
	Path      string `key:"path" doc:"The folder, in the layout of the CNCF distribution registry. Empty: blobs in database.path."`
	AccessKey string `key:"access_key" unbuilt:"true" secret:"true" doc:"For S3."`
	SecretKey string `key:"secret_key" unbuilt:"true" secret:"true" doc:"For S3."`
	Region    string `key:"region" unbuilt:"true" doc:"For S3."`
	Bucket    string `key:"bucket" unbuilt:"true" doc:"For S3."`
	Endpoint  string `key:"endpoint" unbuilt:"true" doc:"For S3 other than Amazon's."`
	PullZone  string `key:"pull_zone" unbuilt:"true" doc:"Address of a CDN before the bucket."`
}

// Database is the section database.
type Database struct {
	Path string `key:"path" doc:"Folder of the hold's database, keys and did.txt. Back it up."`
	URL  string `key:"url" secret:"true" doc:"A PostgreSQL database for every table, as in postgres://user:password@host/database?sslmode=verify-full; best given by the environment. The first start with it copies what repo.db and hold.db in database.path hold, and renames them. Keys, layers and parts of uploads stay in the folder. Empty: those files."`
}

// Identity is the section identity.
type Identity struct {
	DIDMethod       string `key:"did_method" also:"database.did_method" doc:"For a new hold. web: a DID made of public_url, which it is bound to. plc: one that outlives its domain, kept in a directory."`
	DID             string `key:"did" also:"database.did" doc:"A DID to take over. Empty: the one in did.txt, or a new one."`
	PLCDirectoryURL string `key:"plc_directory_url" also:"database.plc_directory_url" doc:"The directory of did:plc identities."`
	RotationKeyPath string `key:"rotation_key_path" also:"database.rotation_key_path" doc:"File of the key that may change a did:plc; it can be kept off this machine. Empty: keys/rotation.key in database.path."`
	RotationKey     string `key:"rotation_key" secret:"true" doc:"That key itself in place of a file, best given by the environment."`
	RecoveryDIDKey  string `key:"recovery_did_key" doc:"Public key (did:key:…) of yours that stands above the hold's own in a did:plc: within 72 hours it undoes what that did."`
}

// Backup is the section backup.
type Backup struct {
	Every     time.Duration `key:"every" doc:"Time between two backups, as in 1h; 0s: none are made."`
	To        string        `key:"to" doc:"Where they go: a folder, best on another machine's disk, or s3://bucket/prefix. Each hold needs its own."`
	Keep      int           `key:"keep" doc:"How many are kept; 0: all. The newest good one always is."`
	Layers    bool          `key:"layers" doc:"Takes the layers along, each once. Not needed where storage is kept safe by itself."`
	Recipient string        `key:"recipient" doc:"Public key of age (age1…, made by age-keygen) that may read the hold's keys in the backup; keep its private half elsewhere. Required with every: a backup without the keys brings the hold's DID back only if you have them. none: they are left out, and kept by you (atcr-hold identity export)."`
	Trust     []string      `key:"trust" doc:"Signing keys of this hold (did:key:…, as atcr-hold backup and atcr-hold identity show print them): verify and restore take sets that one of them signed, and no others. Keep a copy of this file where the backups are not. Empty: the hold's DID document is asked; where it can't be, a restore asks you."`
	Endpoint  string        `key:"endpoint" doc:"Address of the S3 service, for one other than Amazon's, as in https://s3.example.com."`
	Region    string        `key:"region" doc:"Of the bucket."`
	AccessKey string        `key:"access_key" secret:"true" doc:"For S3."`
	SecretKey string        `key:"secret_key" secret:"true" doc:"For S3, best given by the environment."`
}

// Admin is the section admin.
type Admin struct {
	Enabled bool `key:"enabled" doc:"Serves the panel under /admin."`
}

// Quota is the section quota.
type Quota struct {
	Tiers    []Tier        `key:"tiers" doc:"Tiers, lowest first. quota is read and not enforced yet: sizes in B, KB, MB, GB, TB or PB.\n  - {name: deckhand, quota: 5GB, description: for everyone}" toml:"  {name = \"deckhand\", quota = \"5GB\", description = \"for everyone\"}"`
	Defaults QuotaDefaults `key:"defaults" doc:"Tiers of members who have none."`
}

// Tier is an element of quota.tiers.
type Tier struct {
	Name               string `key:"name"`
	Quota              string `key:"quota"`
	Description        string `key:"description"`
	StripePriceMonthly string `key:"stripe_price_monthly"`
	StripePriceYearly  string `key:"stripe_price_yearly"`
}

// QuotaDefaults is the section quota.defaults.
type QuotaDefaults struct {
	NewCrewTier        string `key:"new_crew_tier" unbuilt:"true" doc:"Tier of new members, and of those whose tier is unknown."`
	PlankownerCrewTier string `key:"plankowner_crew_tier" unbuilt:"true" doc:"Tier of the first members."`
}

// size is how quotas are written.
var size = regexp.MustCompile(`^(?i)[0-9]{1,12}(\.[0-9]{1,3})? ?[KMGTP]?B$`)

func (q *Quota) check(p *problems) {
	for i, t := range q.Tiers {
		if t.Name == "" || len(t.Name) > 32 {
			p.add("quota.tiers", "[%d]: name %q: write 1 to 32 bytes", i, t.Name)
		}
		if t.Quota != "" && !size.MatchString(t.Quota) {
			p.add("quota.tiers", "[%d]: quota %q is no size: write 500MB or 5GB", i, t.Quota)
		}
	}
}

// warnings are about what is read and not done.
func (c *Hold) warnings() []string {
	for _, t := range c.Quota.Tiers {
		if t.Quota != "" {
			return []string{"quota.tiers: the tiers are named and given, but their quotas are not enforced yet: " +
				"everybody's use is unlimited"}
		}
	}
	return nil
}

// GC is the section gc.
type GC struct {
	Enabled bool `key:"enabled" doc:"Runs at start and then daily."`
}

// Scanner is the section scanner.
type Scanner struct {
	Secret string `key:"secret" secret:"true" doc:"What scanners show; empty is off."`
}

// Relays is the section relays.
type Relays struct {
	Endpoints []string `key:"endpoints" doc:"Relays to ask."`
}

// DefaultHold is the configuration before file and environment.
func DefaultHold() *Hold {
	c := &Hold{Version: "0.1", LogLevel: "info"}
	c.Server.Addr = ":8080"
	c.Server.AcceptLegacyTokens = true
	c.Server.Redirect = true
	c.Storage.Driver = "file"
	c.Storage.Region = "us-east-1"
	c.Database.Path = "/var/lib/atcr-hold"
	c.Identity.DIDMethod = "web"
	c.Identity.PLCDirectoryURL = plcDirectory
	c.Backup.Keep = 30
	c.Backup.Region = "us-east-1"
	c.Relays.Endpoints = []string{"https://bsky.network"}
	c.LogShipper = defaultLogShipper()
	return c
}

// StoragePath is the folder of the layers.
func (c *Hold) StoragePath() string {
	if c.Storage.Path != "" {
		return c.Storage.Path
	}
	return filepath.Join(c.Database.Path, "blobs")
}

// permissions are what registration.crew may give.
var permissions = []string{"blob:read", "blob:write", "crew:admin"}

func (c *Hold) check() []problem {
	var p problems
	p.logLevel(c.LogLevel)
	c.Server.Listener.check(&p)
	if c.Server.PublicURL == "" {
		p.add("server.public_url", "is required: set it, or %s, to the address others reach the hold at, as in https://hold.example.com",
			EnvName(HoldPrefix, "server.public_url"))
	}
	p.url("server.public_url", c.Server.PublicURL, false)
	p.testMode(c.Server.TestMode, "server.public_url", c.Server.PublicURL)
	if !c.Server.TestMode && strings.HasPrefix(c.Server.PublicURL, "http:") {
		p.add("server.public_url", "must be https; http works under server.test_mode only, on one machine")
	}
	p.asked("server.handle_resolver_url", c.Server.HandleResolverURL, false, c.Server.TestMode, c.Network.Prefixes())
	if c.Registration.OwnerDID == "" {
		p.add("registration.owner_did", "is required: set it, or %s, to the DID of the captain",
			EnvName(HoldPrefix, "registration.owner_did"))
	}
	for path, did := range map[string]string{"registration.owner_did": c.Registration.OwnerDID, "server.successor": c.Server.Successor,
		"server.appview_did": c.Server.AppViewDID, "identity.did": c.Identity.DID} {
		if did != "" && !strings.HasPrefix(did, "did:") {
			p.add(path, "%q is no DID: write did:plc:… or did:web:…", did)
		}
	}
	for _, m := range c.Registration.Crew {
		if m.Member == "" {
			p.add("registration.crew", "an element has no member: name a handle or a DID")
		}
		for _, right := range m.Permissions {
			p.oneOf("registration.crew", right, permissions...)
		}
	}
	c.Quota.check(&p)
	p.oneOf("storage.driver", c.Storage.Driver, "file")
	p.required("database.path", c.Database.Path)
	p.database("database.url", c.Database.URL)
	p.oneOf("identity.did_method", c.Identity.DIDMethod, "web", "plc")
	if k := c.Identity.RecoveryDIDKey; k != "" && !strings.HasPrefix(k, "did:key:z") {
		p.add("identity.recovery_did_key", "is no public key (not shown, it may be a private one): write did:key:z…")
	}
	p.asked("identity.plc_directory_url", c.Identity.PLCDirectoryURL, true, c.Server.TestMode, c.Network.Prefixes())
	c.Network.check(&p)
	c.Backup.check(&p, c.Server.TestMode)
	return p
}

// NoRecipient is backup.recipient's word for leaving the identity out.
const NoRecipient = "none"

func (b *Backup) check(p *problems, testMode bool) {
	if b.Keep < 0 {
		p.add("backup.keep", "must be 0 or more")
	}
	if b.Recipient != "" && b.Recipient != NoRecipient && !strings.HasPrefix(b.Recipient, "age1") {
		p.add("backup.recipient", "is no public key of age (not shown, it may be a private one): write age1…, or none")
	}
	for _, k := range b.Trust {
		if !strings.HasPrefix(k, "did:key:z") {
			p.add("backup.trust", "an element is no public key (not shown, it may be a private one): write did:key:z…")
		}
	}
	p.url("backup.endpoint", b.Endpoint, false)
	if strings.HasPrefix(b.Endpoint, "http:") && !testMode {
		p.add("backup.endpoint", "must be https; http works under server.test_mode only")
	}
	if strings.HasPrefix(b.To, "s3:") {
		if u, err := url.Parse(b.To); err != nil || u.Scheme != "s3" || u.Host == "" || u.User != nil || u.RawQuery != "" ||
			u.Fragment != "" {
			p.add("backup.to", "%q is no bucket: write s3://bucket/prefix, and keys in backup.access_key and backup.secret_key",
				Shown(b.To))
		}
	} else if scheme, _, ok := strings.Cut(b.To, "://"); ok {
		p.add("backup.to", "%s is not supported: name a folder, or s3://bucket/prefix", scheme)
	}
	if strings.HasPrefix(b.To, "s3:") && (b.AccessKey == "" || b.SecretKey == "") {
		p.add("backup.to", "needs backup.access_key and backup.secret_key, or %s and %s", EnvName(HoldPrefix, "backup.access_key"),
			EnvName(HoldPrefix, "backup.secret_key"))
	}
	if b.Every == 0 {
		return
	}
	if b.Every < time.Second {
		p.add("backup.every", "must be 1s or more")
	}
	if b.To == "" {
		p.add("backup.to", "is required with backup.every: name a folder, or s3://bucket/prefix")
	}
	if b.Recipient == "" {
		p.add("backup.recipient", "is required with backup.every: write the public key (age1…) that may read the hold's keys, or "+
			"none to keep them elsewhere yourself")
	}
}
