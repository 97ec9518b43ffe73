// Package holds finds holds and asks them what people may do there. Its errors are those of package registry and name the hold.
package holds

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/limit"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/keyed"
)

// RightsFor is how long rights are believed.
const RightsFor = 60 * time.Second

// Options configures [New]. All but Tokens are required.
type Options struct {
	Directory identity.Directory
	HTTP      *http.Client // follows no redirects
	// CheckLink returns nil when a hold may send readers and parts to an address.
	CheckLink func(ctx context.Context, hold, link *url.URL) error
	// Tokens gets a service token by a session; nil: all clients are anonymous.
	Tokens     func(ctx context.Context, session, aud, lxm string) (string, error)
	ServeStale time.Duration // how long rights are believed of a hold that is silent
	Clock      func() time.Time
	Log        *slog.Logger
}

// Holds knows the holds of the network. Make it with [New]; safe for concurrent use.
type Holds struct {
	o Options

	mu      sync.Mutex
	clients map[string]*holdclient.Client // by DID
	asking  map[string]*question          // by DID and hold
	begun   *limit.Places                 // questions, by client

	now    *keyed.Memo[string, holdclient.Rights]
	last   *keyed.Memo[string, holdclient.Rights] // what a hold last said, for when it is silent
	silent *keyed.Memo[string, silence]           // holds that did not answer lately
	pace   *pacer                                 // of service tokens, by account and hold
}

// New makes a Holds. It asks nothing of the network.
func New(o Options) *Holds {
	return &Holds{
		o: o, clients: map[string]*holdclient.Client{}, asking: map[string]*question{}, begun: limit.NewPlaces(perClient),
		now:    keyed.NewMemo[string, holdclient.Rights](10_000),
		last:   keyed.NewMemo[string, holdclient.Rights](10_000),
		silent: keyed.NewMemo[string, silence](10_000),
		pace:   newPacer(o.Clock),
	}
}

// Client returns a client of the hold that has the DID, anonymous. Clients are kept, since they learn. Errors: registry.ErrUnavailable
// when asking again may help; registry.ErrDenied for a DID that no hold has or can have.
func (h *Holds) Client(ctx context.Context, did string) (*holdclient.Client, error) {
	parsed, err := syntax.ParseDID(did)
	if err != nil {
		return nil, registry.ErrDenied.With("the record names a hold %q that is no DID", clip(did)).Wrap(err)
	}
	ident, err := h.o.Directory.LookupDID(ctx, parsed)
	if err != nil {
		h.mu.Lock()
		c := h.clients[did]
		h.mu.Unlock()
		if c != nil && !errors.Is(err, identity.ErrDIDNotFound) {
			return c, nil
		}
		return nil, unresolved(did, err)
	}
	endpoint, own := ident.GetServiceEndpoint("atcr_hold"), true
	if endpoint == "" {
		endpoint, own = ident.PDSEndpoint(), false
	}
	if endpoint == "" {
		return nil, registry.ErrDenied.With("%s is no hold: its identity document names no hold service", clip(did))
	}
	endpoint = strings.TrimRight(endpoint, "/")
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.clients[did]; c != nil && c.URL() == endpoint {
		return c, nil
	}
	if len(h.clients) >= 10_000 {
		clear(h.clients)
	}
	// The document's own id is the hold's name: a loopback hold has two spellings and tokens are for one.
	c := holdclient.New(holdclient.Options{
		DID: ident.DID.String(), URL: endpoint, HasHoldService: own, HTTP: h.o.HTTP, CheckLink: h.o.CheckLink,
		Log: h.o.Log, Clock: h.o.Clock,
	})
	h.clients[did] = c
	return c, nil
}

// unresolved is the error of a look-up: docker hides the text of a 503, and waits for what will not come.
func unresolved(did string, err error) error {
	var never interface{ Unusable() string } // of package identity
	switch {
	case errors.Is(err, identity.ErrDIDNotFound):
		return registry.ErrDenied.With("there is no hold %s: no such DID exists", clip(did)).Wrap(err)
	case errors.As(err, &never):
		return registry.ErrDenied.With("the hold %s can't be used: %s", clip(did), clip(never.Unusable())).Wrap(err)
	}
	e := registry.ErrUnavailable.With("the hold %s can't be resolved: try again later", clip(did)).Wrap(err)
	e.RetryAfter = 10 * time.Second
	return e
}

// As returns a client that signs as the actor; anonymous without a session. Its tokens are paced: see [Patiently].
func (h *Holds) As(ctx context.Context, did string, actor registry.Actor) (*holdclient.Client, error) {
	c, err := h.Client(ctx, did)
	if err != nil || actor.Session == "" || h.o.Tokens == nil {
		return c, err
	}
	return c.As(func(ctx context.Context, aud, lxm string) (string, error) {
		if err := h.pace.wait(ctx, actor.ID+"\n"+did, reads(lxm)); err != nil {
			return "", err
		}
		return h.o.Tokens(ctx, actor.Session, aud, lxm)
	}), nil
}
