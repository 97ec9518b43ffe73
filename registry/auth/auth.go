package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/limit"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/sqldb"
)

// Leeway is how far two clocks may differ.
const Leeway = 2 * time.Minute

// Options configures [New]. DB, Directory and KeyPath are required.
type Options struct {
	// DB keeps the sessions, in tables auth_… that New migrates. The caller closes it. See package sqldb/sqlite.
	DB *sqldb.DB
	// Directory resolves user names and the first parts of repositories' names.
	Directory identity.Directory
	// HTTP asks PDSes, whose addresses are untrusted: give it a guard. nil is a guarded client for the public internet,
	// under TestMode for loopback, too.
	HTTP *http.Client
	// BaseURL is where clients reach this server, for example https://registry.example.com. Empty: http:// and the
	// request's Host when that is loopback or ListenAddr; any other Host is answered 421.
	BaseURL string
	// ListenAddr is the host:port that the server listens on; it matters when BaseURL is empty.
	ListenAddr string
	// KeyPath is the RS256 key's PEM file; CertPath its certificate's, by default beside it with the ending .crt.
	KeyPath, CertPath string
	// SessionKeyPath is the file of the keys that sessions are encrypted under, one a line: the first seals, and at the start what
	// the others sealed is sealed anew by it. Empty is session.key beside KeyPath. It is made when missing.
	SessionKeyPath string
	// AllowAccountPassword takes main passwords, which give this server full access to an account.
	AllowAccountPassword bool
	// TestMode allows PDSes that are reached by http.
	TestMode bool
	// OAuth keeps grants, for sessions whose id begins with "oauth-": an *oauth.Client. nil: there are none.
	OAuth OAuth
	// InUse returns the sessions of an account (a DID) that must not be dropped when it signs in anew and has too many: those that open
	// uploads and intents act by (pds.Backend.SessionsInUse). The backend is made after this, so give a function that looks at a
	// variable, and returns nil while it is nil. nil: none.
	InUse func(ctx context.Context, did string) (sessions []string, err error)
	// ClientAddr is whose guesses and tokens are counted; nil is the connection's address. A server behind a proxy returns here
	// what its proxy says.
	ClientAddr func(*http.Request) netip.Addr
	Log        *slog.Logger     // nil: slog.Default()
	Clock      func() time.Time // nil: time.Now
}

// Auth issues and checks the registry's tokens. Make one with [New].
type Auth struct {
	opts     Options
	base     baseURL
	ring     atomic.Pointer[keyring]
	keyFile  os.FileInfo // as it was read; for watch alone
	tokens   *tokenCache
	sessions *Sessions
	secrets  *tokenStore
	lives    *lives
	devices  *Devices
	polls    *polls
	// codeRates is how often a client may begin to wait for an approval.
	codeRates *limit.Rates
	guesses   *guessLimiter
	signings  *limit.Rates
	signIns   *prometheus.CounterVec
}

var _ registry.Authorizer = (*Auth)(nil)

// New reads or makes the keys, migrates its tables, drops old sessions, and seals anew those of an earlier version or key. It asks nobody.
// A key file that others can read is refused.
func New(ctx context.Context, opts Options) (*Auth, error) {
	switch {
	case opts.DB == nil:
		return nil, errors.New("auth: Options.DB is missing: package sqldb/sqlite opens one")
	case opts.Directory == nil:
		return nil, errors.New("auth: Options.Directory is missing: identity.NewResolver makes one")
	case opts.KeyPath == "":
		return nil, errors.New("auth: Options.KeyPath is missing: name a file for the key that signs tokens; it is made if need be")
	}
	opts.setDefaults()
	base, err := newBaseURL(opts.BaseURL, opts.ListenAddr)
	if err != nil {
		return nil, err
	}
	keyFile, _ := os.Stat(opts.KeyPath) // before it is read; none: it is made now
	keys, err := loadKeyring(opts.KeyPath, opts.CertPath, opts.Clock(), opts.Log)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if keyFile == nil {
		keyFile, _ = os.Stat(opts.KeyPath)
	}
	sealer, err := loadSealer(opts.SessionKeyPath)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if err := Migrate(ctx, opts.DB); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	a := &Auth{
		opts: opts, base: base, keyFile: keyFile,
		tokens: newTokenCache(10_000), secrets: &tokenStore{opts.DB}, lives: newLives(opts.Clock),
		guesses: newGuessLimiter(), signings: limit.NewRates(signingsPerSecond, signingBurst),
		sessions: &Sessions{
			store: &store{db: opts.DB, sealer: sealer}, directory: opts.Directory, testMode: opts.TestMode,
			http: opts.HTTP, clock: opts.Clock, log: opts.Log, inUse: opts.InUse, max: maxAllSessions,
			limits: newPDSLimits(opts.Clock),
		},
		signIns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atcr_sign_ins_total",
			Help: "Sign-ins at the token endpoint, by result.",
		}, []string{"result"}),
	}
	a.sessions.grants = &grants{oauth: opts.OAuth, ended: a.lives.forget, limits: a.sessions.limits, hosts: newLRU[string](maxKnown)}
	a.ring.Store(keys)
	a.devices = &Devices{a, &recent{count: wrongCodes, span: wrongCodesTime, times: newLRU[[]time.Time](maxKnown)}}
	a.polls, a.codeRates = &polls{byID: newLRU[poll](maxKnown)}, limit.NewRates(1/codeEvery.Seconds(), codeBurst)
	if err := a.sessions.prune(ctx); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	if err := a.sessions.store.reseal(ctx, opts.Log); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return a, nil
}

func (o *Options) setDefaults() {
	if o.HTTP == nil {
		// A PDS that is reached in test mode is on loopback.
		o.HTTP = httpx.NewClient(httpx.ClientOptions{Guard: httpx.Guard{Loopback: o.TestMode}, UserAgent: "atcr-appview"})
	}
	// Passwords and tokens are for the server that was asked, not for where it points.
	client := *o.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.HTTP = &client
	if o.CertPath == "" {
		o.CertPath = strings.TrimSuffix(o.KeyPath, filepath.Ext(o.KeyPath)) + ".crt"
	}
	if o.SessionKeyPath == "" {
		o.SessionKeyPath = filepath.Join(filepath.Dir(o.KeyPath), "session.key")
	}
	if o.ClientAddr == nil {
		o.ClientAddr = httpx.ClientAddr
	}
	if o.InUse == nil {
		o.InUse = func(context.Context, string) ([]string, error) { return nil, nil }
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
}

// Handler serves /auth/token, /auth/jwks.json, /auth/device/code and /auth/device/token. Mount it at "/auth/".
func (a *Auth) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /auth/token", a.serveToken)
	mux.HandleFunc("POST /auth/token", a.serveToken)
	mux.HandleFunc("GET /auth/jwks.json", a.serveJWKS)
	mux.HandleFunc("POST /auth/device/code", a.serveFlow(a.answerDeviceCode))
	mux.HandleFunc("POST /auth/device/token", a.serveFlow(a.answerDeviceToken))
	return mux
}

// Sessions acts for accounts that signed in.
func (a *Auth) Sessions() *Sessions { return a.sessions }

// Run drops what is old once an hour, and keeps alive the sessions that tokens need, until ctx ends. It also takes a key file
// that [RotateKey] replaced.
func (a *Auth) Run(ctx context.Context) error {
	watching := make(chan struct{})
	go func() { a.watch(ctx); close(watching) }()
	defer func() { <-watching }()
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if err := a.keep(ctx); err != nil && ctx.Err() == nil {
				a.opts.Log.Error("upkeep of sign-ins", "err", err)
			}
		}
	}
}

// Metrics returns the collectors, for the caller's registry.
func (a *Auth) Metrics() []prometheus.Collector { return []prometheus.Collector{a.signIns} }

// baseURL knows under which URL a request reached the server.
type baseURL struct {
	fixed  *url.URL
	listen string
}

func newBaseURL(fixed, listen string) (baseURL, error) {
	b := baseURL{listen: strings.ToLower(listen)}
	if fixed == "" {
		return b, nil
	}
	u, err := url.Parse(strings.TrimRight(fixed, "/"))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		return b, fmt.Errorf("server.base_url %q: write scheme and host alone, like https://registry.example.com", fixed)
	}
	b.fixed = u
	return b, nil
}

// of returns the base of a request: the configured one, else the request's Host where that can't be somebody else's choice.
func (b baseURL) of(r *http.Request) (*url.URL, error) {
	if b.fixed != nil {
		return b.fixed, nil
	}
	host := strings.ToLower(r.Host)
	u, err := url.Parse("http://" + host)
	if err != nil || u.Host != host || u.Hostname() == "" {
		return nil, errMisdirected
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Hostname() == "localhost" || err == nil && ip.IsLoopback() || b.listen != "" && host == b.listen {
		return u, nil
	}
	return nil, errMisdirected
}

// issuer is the tokens' iss: it does not depend on how a client spells this server.
func (b baseURL) issuer() string {
	if b.fixed != nil {
		return b.fixed.String()
	}
	return "atcr"
}
