package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atcr-dev/atcr/identity/internal/plclog"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// MaxDocument is how long a DID document may be, in bytes.
const MaxDocument = 64 << 10

// DefaultPLCURL is the public did:plc directory.
const DefaultPLCURL = "https://plc.directory"

// ResolverOptions configures [NewResolver]. The zero value is a resolver for the public network.
type ResolverOptions struct {
	// HTTP makes all HTTP requests. nil is one with the address guard, opened under TestMode for loopback and the
	// hosts of the URLs below. A client of one's own should have a guard, too: untrusted users choose the
	// addresses. indigo's util/ssrf.PublicOnlyTransport is one, without test mode.
	HTTP *http.Client
	// PLCURL is the did:plc directory; empty is [DefaultPLCURL].
	PLCURL string
	// HandleResolverURL is a PDS that is asked for handles first, by com.atproto.identity.resolveHandle, for private
	// networks; DNS and HTTPS come after it.
	HandleResolverURL string
	// TestMode takes did:web on loopback, with port and by http.
	TestMode bool
	// DNS returns TXT records; nil is the system's.
	DNS TXTResolver
	// TTL is how long an answer holds; 0 is 5 minutes, which is also the longest.
	TTL time.Duration
	// NegativeTTL is how long "there is no such handle or DID" holds; 0 is 1 minute.
	NegativeTTL time.Duration
	// StaleFor is how long the last answer serves while a directory can't be reached; 0 is 7 days, less than 0 never.
	StaleFor time.Duration
	// MaxEntries bounds each of the two caches; 0 is 20 000.
	MaxEntries int
	Log        *slog.Logger     // nil: slog.Default()
	Clock      func() time.Time // nil: the system's
}

// TXTResolver returns TXT records of a name; *net.Resolver is one.
type TXTResolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Resolver is a [Directory] that asks the network, and remembers. It is safe for concurrent use. The accounts it returns are
// shared: don't change their maps.
type Resolver struct {
	opts    ResolverOptions
	handles *memo[syntax.DID]
	docs    *memo[*Account]
	lookups *prometheus.CounterVec
}

var _ Directory = (*Resolver)(nil)

// NewResolver returns a resolver. It makes no request.
func NewResolver(opts ResolverOptions) *Resolver {
	if opts.PLCURL == "" {
		opts.PLCURL = DefaultPLCURL
	}
	opts.PLCURL = strings.TrimRight(opts.PLCURL, "/")
	opts.HandleResolverURL = strings.TrimRight(opts.HandleResolverURL, "/")
	if opts.HTTP == nil {
		var g httpx.Guard
		if opts.TestMode {
			g = httpx.Guard{Loopback: true, Hosts: httpx.HostsOf(opts.PLCURL, opts.HandleResolverURL)}
		}
		opts.HTTP = httpx.NewClient(httpx.ClientOptions{Guard: g, Timeout: -1, UserAgent: "atcr"}) // each question has its own
	}
	if opts.DNS == nil {
		opts.DNS = net.DefaultResolver
	}
	if opts.TTL <= 0 || opts.TTL > 5*time.Minute {
		opts.TTL = 5 * time.Minute
	}
	if opts.NegativeTTL <= 0 {
		opts.NegativeTTL = time.Minute
	}
	if opts.StaleFor == 0 {
		opts.StaleFor = 7 * 24 * time.Hour
	}
	if opts.MaxEntries <= 0 {
		opts.MaxEntries = 20_000
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Clock == nil {
		start := time.Now()
		opts.Clock = func() time.Time { return start.Add(time.Since(start)) } // half of time.Now, which is most of a cached answer
	}
	r := &Resolver{opts: opts}
	r.lookups = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "atcr_identity_requests_total",
		Help: "Questions put to the network about handles and DIDs, by kind (handle, plc, web) and result (ok, none, failed).",
	}, []string{"kind", "result"})
	rules := memoRules{ttl: opts.TTL, negative: opts.NegativeTTL, stale: opts.StaleFor, max: opts.MaxEntries, clock: opts.Clock}
	r.handles = newMemo(rules, r.askHandle)
	r.docs = newMemo(rules, newLookups().bound(r.askDID))
	return r
}

// Metrics returns the resolver's collectors, for the caller's registry.
func (r *Resolver) Metrics() []prometheus.Collector { return []prometheus.Collector{r.lookups} }

// ResolveHandle returns the DID that a handle names. It does not ask whether the DID names the handle.
// Errors: ErrHandleNotFound, ErrHandleResolutionFailed, ErrHandleReservedTLD, ErrInvalidHandle.
func (r *Resolver) ResolveHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	h = h.Normalize()
	if did, err, ok := r.handles.answered(h.String()); ok {
		return did, err
	}
	if _, err := syntax.ParseHandle(h.String()); err != nil || h.IsInvalidHandle() { // it becomes part of a URL
		return "", fmt.Errorf("%w: %q", ErrInvalidHandle, plclog.Clip(h.String()))
	}
	if !h.AllowedTLD() {
		return "", fmt.Errorf("%w: %s", ErrHandleReservedTLD, h)
	}
	return r.handles.get(ctx, h.String())
}

// LookupHandle returns the account of a handle that holds in both directions.
// Errors: those of ResolveHandle and LookupDID, ErrHandleMismatch, ErrHandleNotDeclared.
func (r *Resolver) LookupHandle(ctx context.Context, h syntax.Handle) (*Account, error) {
	h = h.Normalize()
	did, err := r.ResolveHandle(ctx, h)
	if err != nil {
		return nil, err
	}
	acc, err := r.document(ctx, did)
	if err != nil {
		return nil, err
	}
	declared, err := acc.DeclaredHandle()
	if err != nil || declared != h {
		// The handle may be newer than the document we remember.
		if acc, err = r.fresh(ctx, did); err != nil {
			return nil, err
		}
		if declared, err = acc.DeclaredHandle(); err != nil {
			return nil, fmt.Errorf("%s: %w", did, err)
		}
	}
	if declared != h {
		return nil, fmt.Errorf("%w: %s names %s, which calls itself %s", ErrHandleMismatch, h, did, declared)
	}
	acc.Handle = declared
	return acc, nil
}

// LookupDID returns the account of a DID. Its Handle is handle.invalid when the declared one does not lead back here.
// Errors: ErrDIDNotFound; ErrDIDResolutionFailed, of which [Unusable] says whether asking again may help.
func (r *Resolver) LookupDID(ctx context.Context, did syntax.DID) (*Account, error) {
	acc, err := r.document(ctx, did)
	if err != nil {
		return nil, err
	}
	r.confirmHandle(ctx, acc)
	return acc, nil
}

// LookupDIDFresh is LookupDID with a document fetched now, unless that was done in the last minute: for signatures
// that fail, since the key may have been rotated. When the directory is down it returns what is remembered.
func (r *Resolver) LookupDIDFresh(ctx context.Context, did syntax.DID) (*Account, error) {
	acc, err := r.fresh(ctx, did)
	if err != nil {
		return nil, err
	}
	r.confirmHandle(ctx, acc)
	return acc, nil
}

// Lookup is LookupHandle or LookupDID.
func (r *Resolver) Lookup(ctx context.Context, id syntax.AtIdentifier) (*Account, error) {
	if h, err := id.AsHandle(); err == nil {
		return r.LookupHandle(ctx, h)
	}
	did, err := id.AsDID()
	if err != nil {
		return nil, fmt.Errorf("%q is neither a handle nor a DID", plclog.Clip(id.String()))
	}
	return r.LookupDID(ctx, did)
}

// Purge makes the next look-up of this identifier ask the network; with a DID goes the handle it was known to have. What was
// known still serves when asking fails.
func (r *Resolver) Purge(_ context.Context, id syntax.AtIdentifier) error {
	if h, err := id.AsHandle(); err == nil {
		r.handles.expire(h.Normalize().String())
	} else if did, err := id.AsDID(); err == nil {
		key := string(canonical(did, r.opts.TestMode))
		if acc, ok := r.docs.peek(key); ok {
			if h, err := acc.DeclaredHandle(); err == nil {
				r.handles.expire(h.String())
			}
		}
		r.docs.expire(key)
	}
	return nil
}

// DIDs returns a view of the same caches that does not ask about handles: every account's Handle is handle.invalid. For
// those who need keys and addresses only, like the checking of service tokens. Its accounts are the cache's own: don't change them.
func (r *Resolver) DIDs() Directory { return didsOnly{r} }

type didsOnly struct{ *Resolver }

// LookupDID implements [Directory].
func (d didsOnly) LookupDID(ctx context.Context, did syntax.DID) (*Account, error) {
	return d.docs.get(ctx, string(canonical(did, d.opts.TestMode)))
}

// Lookup implements [Directory].
func (d didsOnly) Lookup(ctx context.Context, id syntax.AtIdentifier) (*Account, error) {
	if did, err := id.AsDID(); err == nil {
		return d.LookupDID(ctx, did)
	}
	return d.Resolver.Lookup(ctx, id)
}

func (r *Resolver) document(ctx context.Context, did syntax.DID) (*Account, error) {
	return copied(r.docs.get(ctx, string(canonical(did, r.opts.TestMode))))
}

func (r *Resolver) fresh(ctx context.Context, did syntax.DID) (*Account, error) {
	key := string(canonical(did, r.opts.TestMode))
	r.docs.expireOncePer(key, time.Minute)
	return copied(r.docs.get(ctx, key))
}

func copied(acc *Account, err error) (*Account, error) {
	if err != nil {
		return nil, err
	}
	c := *acc
	return &c, nil
}

func (r *Resolver) confirmHandle(ctx context.Context, acc *Account) {
	acc.Handle = syntax.HandleInvalid
	declared, err := acc.DeclaredHandle()
	if err != nil {
		return
	}
	if did, err := r.ResolveHandle(ctx, declared); err == nil && did == acc.DID {
		acc.Handle = declared
	}
}

// definite tells "there is none" from "could not ask".
func definite(err error) bool {
	return errors.Is(err, ErrHandleNotFound) || errors.Is(err, ErrDIDNotFound) || errors.Is(err, errUnsupported)
}

// errUnsupported: a DID that this resolver will never ask about.
var errUnsupported = errors.New("not supported")
