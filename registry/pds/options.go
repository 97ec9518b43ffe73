package pds

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/bluesky-social/indigo/atproto/identity"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/sqldb"
)

// Sessions acts for signed-in accounts at their own PDS. The session is what the registry's Authorizer put into
// Actor.Session; it must outlive a restart, since open intents are settled with it. Safe for concurrent use.
//
// Both methods return an error of kind registry.ErrUnauthorized when the session is unknown, ended or refused by the PDS (signing in
// again is the remedy), registry.ErrTooManyRequests with RetryAfter when the PDS says so while refreshing, and
// registry.ErrUnavailable when the PDS does not answer.
type Sessions interface {
	// Do sends a request to the session's PDS with its credentials. req.URL has a path ("/xrpc/…") and query only; scheme, host
	// and Authorization are filled in by Do, which may send it twice (an expired access token): a body has
	// GetBody. Redirects are not followed. The caller closes the answer's body and judges its status;
	// 401 is returned only after a refresh was tried.
	Do(ctx context.Context, session string, req *http.Request) (*http.Response, error)

	// ServiceToken gets a token by com.atproto.server.getServiceAuth for one method of the service aud ("did:…" or "did:…#atcr_hold").
	// An audience that the PDS refuses is registry.ErrDenied.
	ServiceToken(ctx context.Context, session, aud, lxm string) (string, error)
}

// Redirect says how a layer is given to a client.
type Redirect string

// Ways of giving a layer.
const (
	// RedirectAuto sends the client to where the hold's bytes lie, when the hold gives such an address (the default).
	RedirectAuto Redirect = "auto"
	// RedirectNever passes all bytes through this server.
	RedirectNever Redirect = "never"
)

// Options configures [New]. DB and Directory are required; without Sessions nothing can be pushed.
type Options struct {
	// DB keeps the copies, uploads and intents, in tables pds_… that New migrates. The caller closes it. See package
	// sqldb/sqlite.
	DB *sqldb.DB
	// Dir is a folder for the ends of uploads, those that are no part of 5 MiB yet or whose senders pause; it is made when missing, mode
	// 0700, and is this Backend's alone. It takes up to 1 GiB. Empty is a folder among the system's temporary ones, which Close
	// removes: then what came of an upload does not outlive the process.
	Dir string
	// Directory resolves owners, holds and the actors' PDSes.
	Directory identity.Directory
	// HTTP asks PDSes and holds, whose addresses are untrusted. Nil is a client that connects to public addresses only;
	// one of your own should have such a guard, too, and no timeout over the whole exchange (layers pass through it; calls
	// that are short are bounded here).
	HTTP *http.Client
	// CheckLink returns nil when a hold (the first address) may send clients to an address, or have parts sent there. Nil: public
	// addresses, and with an HTTP of your own also the network that the hold is itself in.
	CheckLink func(ctx context.Context, hold, link *url.URL) error
	// Sessions acts for signed-in accounts.
	Sessions Sessions
	// Self issues service tokens in the registry's own name (serviceauth.Mint with its DID and key): for the service aud, good for
	// the method lxm. With it holds are told of pulls without sign-in. A hold that refuses is not told again for an hour. Nil: such
	// pulls are not counted.
	Self holdclient.TokenFunc
	// DefaultHold is the DID of the hold for owners whose profile names none.
	DefaultHold string
	// Redirect says how layers are given to clients; empty is RedirectAuto.
	Redirect Redirect
	// ServeStale is how long answers are given while an owner's PDS is silent; 0 is 7 days, negative is never.
	ServeStale time.Duration
	// Verify says when owners' records must be proved by their signed repositories; empty is VerifySampled.
	Verify Verify
	// CacheBytes bounds the cache of manifests' bytes in DB; 0 is 1 GiB.
	CacheBytes int64
	// OwnerRecords and OwnerBytes bound what is kept of one owner's records in DB: their number, and about what their rows take. An
	// owner who has more is refused (registry.ErrDenied), and asked again an hour later. 0 is 250 000, and 256 MiB.
	OwnerRecords, OwnerBytes int64
	// CopyBytes bounds what is kept of all owners' records; who was not asked for longest goes first, and is listed anew when somebody
	// asks. 0 is 4 GiB.
	CopyBytes int64
	// Clock returns the time; nil is time.Now.
	Clock func() time.Time
	// Log hears of what no client is told; nil is slog.Default().
	Log *slog.Logger
}

// defaults fills in what is empty.
func (o *Options) defaults() {
	if o.Verify == "" {
		o.Verify = VerifySampled
	}
	if o.CheckLink == nil {
		links := httpx.LinkOptions{Clock: o.Clock}
		if o.HTTP != nil {
			links.Guard = httpx.AnyNetwork()
		}
		o.CheckLink = httpx.NewLinks(links).Check
	}
	if o.HTTP == nil {
		o.HTTP = httpx.NewClient(httpx.ClientOptions{Timeout: -1, UserAgent: "atcr-appview"})
	}
	if o.ServeStale == 0 {
		o.ServeStale = 7 * 24 * time.Hour
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 1 << 30
	}
	if o.OwnerRecords == 0 {
		o.OwnerRecords = 250_000
	}
	if o.OwnerBytes == 0 {
		o.OwnerBytes = 256 << 20
	}
	if o.CopyBytes == 0 {
		o.CopyBytes = 4 << 30
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
}
