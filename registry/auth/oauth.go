package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/atcr-dev/atcr/identity/oauth"
	"github.com/atcr-dev/atcr/registry"
)

// OAuth keeps grants of AT Protocol OAuth: an *oauth.Client. Their ids stand beside those of sessions in one space.
type OAuth interface {
	// Do sends a request to the grant's server, as [Sessions.Do] does.
	Do(ctx context.Context, grant string, req *http.Request) (*http.Response, error)
	// Grant returns a grant, also one that has ended.
	Grant(ctx context.Context, grant string) (*oauth.Grant, error)
	// End revokes a grant at its server as far as that answers, and deletes it in any case. One that isn't there is no error.
	End(ctx context.Context, grant string) error
}

var _ OAuth = (*oauth.Client)(nil)

const grantPrefix = "oauth-"

// isGrant reports whether the id of a session is that of a grant of OAuth.
func isGrant(id string) bool { return strings.HasPrefix(id, grantPrefix) }

// grants does with grants of OAuth what [Sessions] does with sessions.
type grants struct {
	oauth  OAuth           // nil: there are none
	ended  func(id string) // is told of those that turn out to have ended
	limits *pdsLimits

	mu    sync.Mutex
	hosts *lru[string] // of grants' servers, as they were last reached
}

var errNoOAuth = errNoSession.Wrap(errors.New("Options.OAuth is not set"))

func (g *grants) do(ctx context.Context, id string, req *http.Request) (*http.Response, error) {
	if g.oauth == nil {
		return nil, errNoOAuth
	}
	g.mu.Lock()
	host, known := g.hosts.get(id)
	g.mu.Unlock()
	if known {
		if err := g.limits.wait(ctx, host, isRead(req)); err != nil {
			return nil, err
		}
	}
	resp, err := g.oauth.Do(ctx, id, req)
	if errors.Is(err, oauth.ErrEnded) {
		g.ended(id)
	}
	if err != nil {
		return nil, fromOAuth(err)
	}
	if resp.Request != nil && resp.Request.URL != nil {
		host = resp.Request.URL.Host
		g.limits.saw(host, resp.Header)
		g.mu.Lock()
		g.hosts.put(id, host)
		g.mu.Unlock()
	}
	return resp, nil
}

// lives returns nil when a grant has not ended. Errors: of kind ErrUnauthorized, with the reason.
func (g *grants) lives(ctx context.Context, id string) error {
	_, err := g.get(ctx, id)
	return err
}

// owned is lives for a grant that must be an account's.
func (g *grants) owned(ctx context.Context, did, id string) error {
	grant, err := g.get(ctx, id)
	if err == nil && grant.DID != did {
		return fmt.Errorf("auth: the grant is not one of %s", did)
	}
	return err
}

func (g *grants) get(ctx context.Context, id string) (*oauth.Grant, error) {
	if g.oauth == nil {
		return nil, errNoOAuth
	}
	grant, err := g.oauth.Grant(ctx, id)
	switch {
	case err != nil:
		return nil, fromOAuth(err)
	case grant.Ended != "":
		return nil, registry.ErrUnauthorized.With("your sign-in has ended: %s", grant.Ended).Wrap(endedReason(grant.Ended))
	}
	return grant, nil
}

// endedReason is why a grant ended, for people.
type endedReason string

func (r endedReason) Error() string { return string(r) }

// end ends a grant.
func (g *grants) end(ctx context.Context, id string) error {
	if g.oauth == nil {
		return errNoOAuth
	}
	return g.oauth.End(ctx, id)
}

// fromOAuth gives an error of package identity/oauth its kind for clients of a registry.
func fromOAuth(err error) error {
	var e *oauth.Error
	if !errors.As(err, &e) {
		return err
	}
	kind := registry.ErrUnavailable
	switch {
	case errors.Is(e, oauth.ErrEnded), errors.Is(e, oauth.ErrState):
		kind = registry.ErrUnauthorized
	case errors.Is(e, oauth.ErrTooManyRequests):
		kind = registry.ErrTooManyRequests
	case errors.Is(e, oauth.ErrDenied), errors.Is(e, oauth.ErrUnsupported):
		kind = registry.ErrDenied
	}
	out := kind.With("%s", e.Message).Wrap(err)
	out.RetryAfter = e.RetryAfter
	return out
}
