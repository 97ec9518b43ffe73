package holdclient

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/internal/httpx"
)

// TokenFunc gives a service token of one user for the audience and the XRPC method (com.atproto.server.getServiceAuth
// at the user's PDS). Each call should give a fresh token: holds take a token once. An error ends the call that wanted it.
type TokenFunc func(ctx context.Context, aud, lxm string) (string, error)

// Options for [New]. DID and URL are required.
type Options struct {
	// DID of the hold.
	DID string
	// URL of its service, as its DID document names it: scheme and host.
	URL string
	// HasHoldService says that the hold's DID document has the service #atcr_hold; tokens are then addressed
	// to DID#atcr_hold first.
	HasHoldService bool
	// HTTP makes the requests, without following redirects. Nil is a client that connects to public addresses only, since
	// those of holds are untrusted input; for a hold on loopback or a private network give one of your own.
	HTTP *http.Client
	// CheckLink returns nil when the hold (the first address) may send readers to an address, or have parts sent there. It is called
	// before anybody goes there; one that wraps ErrLinkRefused is for good, another is ErrUnavailable. Nil: public addresses,
	// and with an HTTP of your own also the network that the hold is itself in.
	CheckLink func(ctx context.Context, hold, link *url.URL) error
	// Token signs requests as one user; nil asks anonymously. See also [Client.As].
	Token TokenFunc
	// Log gets a debug line for each fallback; nil is slog.Default().
	Log *slog.Logger
	// Clock returns the time; nil is time.Now.
	Clock func() time.Time
}

// Client speaks to one hold, as one user or anonymously. Make it with [New].
type Client struct {
	h     *host
	token TokenFunc
}

// host is what all views of a client share.
type host struct {
	did, url  string
	http      *http.Client
	checkLink func(ctx context.Context, hold, link *url.URL) error
	log       *slog.Logger
	clock     func() time.Time

	mu         sync.Mutex
	auds       []string             // audiences to try, in order
	audKnown   bool                 // auds[0] has worked
	challenged map[string]bool      // methods that answered 401 or 403 without a token
	missing    map[string]time.Time // methods the hold lacks, and when that was seen
	direct     bool                 // parts go to uploadPart at the hold

	directUntil time.Time // until then readers of a public hold are sent to getBlob itself
}

// A hold may be upgraded while we run: what it lacked is asked again after this.
const missingFor = time.Hour

// New makes a client for the hold. It makes no request.
func New(o Options) *Client {
	h := &host{
		did: o.DID, url: strings.TrimRight(o.URL, "/"), checkLink: o.CheckLink, log: o.Log, clock: o.Clock,
		auds:       []string{o.DID, o.DID + "#atcr_hold"},
		challenged: map[string]bool{}, missing: map[string]time.Time{},
	}
	if o.HasHoldService {
		h.auds[0], h.auds[1] = h.auds[1], h.auds[0]
	}
	if h.checkLink == nil {
		links := httpx.LinkOptions{Clock: o.Clock}
		if o.HTTP != nil {
			links.Guard = httpx.AnyNetwork()
		}
		h.checkLink = httpx.NewLinks(links).Check
	}
	if o.HTTP == nil {
		o.HTTP = httpx.NewClient(httpx.ClientOptions{Timeout: -1, UserAgent: "atcr-holdclient"})
	}
	hc := *o.HTTP
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	hc.Jar = nil
	h.http = &hc
	if h.log == nil {
		h.log = slog.Default()
	}
	if h.clock == nil {
		h.clock = time.Now
	}
	return &Client{h: h, token: o.Token}
}

// As gives a view of the same client that signs as another user; nil is anonymous. What is learned of the hold
// is shared by all views.
func (c *Client) As(token TokenFunc) *Client { return &Client{h: c.h, token: token} }

// DID of the hold.
func (c *Client) DID() string { return c.h.did }

// URL of the hold's service.
func (c *Client) URL() string { return c.h.url }

func (h *host) isMissing(method string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, ok := h.missing[method]
	return ok && h.clock().Sub(at) < missingFor
}

func (h *host) setMissing(method string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.missing[method] = h.clock()
	h.log.Debug("hold lacks a method", "hold", h.did, "method", method)
}
