package oauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/seal"
	"github.com/atcr-dev/atcr/sqldb"
)

// Config configures [New]. DB, Directory, URL, KeyPath and SealPath are required.
type Config struct {
	// DB keeps requests and grants, in tables oauth_… that New migrates. The caller closes it. See package sqldb/sqlite.
	DB *sqldb.DB
	// Directory resolves accounts. identity.NewResolver makes one.
	Directory identity.Directory
	// URL is the application's: https://registry.example.com, a confidential client; or http://127.0.0.1:PORT or http://[::1]:PORT, a
	// public one, whose grants end within two weeks.
	URL string
	// Scopes are asked for; "atproto" is added when missing. A server that can't find a permission set ("include:…") is asked without, one
	// that refuses the others for transition:generic where that has them all. A sign-in that is granted less is refused.
	Scopes []string
	// KeyPath is the file of the client's P-256 keys, SealPath that of the keys which tokens are sealed under. Both are made when
	// missing, mode 0600.
	KeyPath, SealPath string
	// Name and the URLs are what people see when they are asked to consent. Empty: the host of URL, and none.
	Name, LogoURL, PolicyURL, TermsURL string
	// CallbackPath and MetadataPath are where the application serves them. Empty: /auth/oauth/callback and /oauth-client-metadata.json.
	CallbackPath, MetadataPath string
	// TestMode takes servers on loopback, by http and on any port.
	TestMode bool
	// HTTP asks accounts' servers, whose addresses are untrusted: give it a guard. nil is a guarded client for the public internet, under
	// TestMode for loopback, too. Redirects are not followed.
	HTTP  *http.Client
	Clock func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: slog.Default()
}

// Client signs people in and acts for them. Make one with [New]; several processes may share a database.
type Client struct {
	config Config
	self   *self
	agent  *agent
	store  *store
	crash  crashpoint.Hook

	renewals  renewals
	unsaved   unsaved
	lostAfter time.Duration // how long another process's refresh is waited for
}

// New reads or makes the keys and migrates its tables. It asks nobody. A key file that others can read is refused.
func New(ctx context.Context, c Config) (*Client, error) {
	switch {
	case c.DB == nil:
		return nil, errors.New("oauth: Config.DB is missing: package sqldb/sqlite opens one")
	case c.Directory == nil:
		return nil, errors.New("oauth: Config.Directory is missing: identity.NewResolver makes one")
	case c.URL == "":
		return nil, errors.New("oauth: Config.URL is missing: write the application's, like https://registry.example.com")
	case c.KeyPath == "":
		return nil, errors.New("oauth: Config.KeyPath is missing: name a file for the client's key; it is made if need be")
	case c.SealPath == "":
		return nil, errors.New("oauth: Config.SealPath is missing: name a file for the key that seals tokens; it is made if need be")
	}
	c.setDefaults()
	self, err := newSelf(&c)
	if err != nil {
		return nil, err
	}
	clientKeys, err := loadKeyring(c.KeyPath, c.Clock, c.Log)
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	keys, _, err := seal.Load(c.SealPath, sealLabel)
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	if err := Migrate(ctx, c.DB); err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	agent := newAgent(c.HTTP, c.TestMode, c.Clock, c.Log, clientKeys)
	client := &Client{
		config: c, self: self, agent: agent, store: &store{db: c.DB, seal: keys}, crash: crashpoint.From(ctx), lostAfter: lostAfter,
	}
	switch count, err := client.store.reseal(ctx); {
	case err != nil:
		return nil, fmt.Errorf("oauth: %w", err)
	case count > 0:
		c.Log.Info("grants sealed anew", "count", count)
	}
	return client, nil
}

const sealLabel = "atcr oauth"

func (c *Config) setDefaults() {
	if c.CallbackPath == "" {
		c.CallbackPath = "/auth/oauth/callback"
	}
	if c.MetadataPath == "" {
		c.MetadataPath = "/oauth-client-metadata.json"
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
}
