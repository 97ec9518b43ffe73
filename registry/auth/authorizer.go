package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry"
)

// uploadLife is how long after its end a token still continues an upload of its holder.
const uploadLife = 24 * time.Hour

// Authorize implements [registry.Authorizer]. Errors: ErrUnauthorized with a challenge; ErrDenied for a push into somebody else's
// namespace; ErrUnavailable when a name can't be resolved now; 421 when BaseURL is not set and the Host is not known to be ours.
func (a *Auth) Authorize(r *http.Request, wanted []registry.Access) (registry.Actor, error) {
	base, err := a.base.of(r)
	if err != nil {
		return registry.Actor{}, err
	}
	challenge := challengeFor(base, wanted)
	token, given := bearer(r)
	if !given {
		if onlyPull(wanted) {
			return registry.Actor{Challenge: challenge, NoToken: true}, nil
		}
		return registry.Actor{}, unauthorized(challenge, "", signInText(base, wanted))
	}
	var late time.Duration
	if len(wanted) == 1 && wanted[0].Upload != "" {
		late = uploadLife
	}
	c, err := a.verify(token, late)
	if err != nil {
		return registry.Actor{}, unauthorized(challenge, "invalid_token", "the token is no longer good: "+signInText(base, wanted))
	}
	if err := a.alive(r.Context(), base.String(), c); err != nil {
		return registry.Actor{}, ended(named(err, base.Host), challenge)
	}
	actor := registry.Actor{ID: c.DID, Session: c.Session, Challenge: challenge}
	for _, want := range wanted {
		if want.Repository == "" {
			continue // /v2/ and the catalog: any token of ours
		}
		if writes(want.Actions) {
			if c.DID == "" {
				return registry.Actor{}, unauthorized(challenge, "", signInText(base, wanted))
			}
			if actor.Name, err = a.ownNamespace(r.Context(), c.DID, base.Host, want.Repository); err != nil {
				return registry.Actor{}, err
			}
		}
		if !covers(c.Access, want.Repository, want.Actions) {
			if c.Method == kindRobot {
				if reads := r.Method == http.MethodGet || r.Method == http.MethodHead; reads && onlyPull(wanted) { // as everybody may
					return registry.Actor{Challenge: challenge}, nil
				}
				return registry.Actor{}, a.beyondRobot(r.Context(), c.Token, base.String(), want)
			}
			text := "the token does not cover this: " + signInText(base, wanted)
			return registry.Actor{}, unauthorized(challenge, "insufficient_scope", text)
		}
	}
	return actor, nil
}

// ownNamespace returns the DID that the name's first part resolves to, which must be did.
func (a *Auth) ownNamespace(ctx context.Context, did, host, name string) (string, error) {
	owner, err := a.ownerOf(ctx, name)
	var e *registry.Error
	switch {
	case errors.Is(err, registry.ErrDenied) && errors.As(err, &e):
		return "", e.With("%s: %s", e.Message, a.ownPath(ctx, did, host, name))
	case err != nil:
		return "", err
	case owner != did:
		return "", registry.ErrDenied.With("%s is not yours: %s", name, a.ownPath(ctx, did, host, name))
	}
	return owner, nil
}

// ownPath says under which name an account may push what it wanted to push as name.
func (a *Auth) ownPath(ctx context.Context, did, host, name string) string {
	who, path := did, "HANDLE"
	if acc, err := a.opts.Directory.LookupDID(ctx, syntax.DID(did)); err == nil && acc.Handle != "" && !acc.Handle.IsInvalidHandle() {
		who, path = acc.Handle.String(), acc.Handle.String()
	}
	if _, rest, ok := strings.Cut(name, "/"); ok {
		name = rest
	}
	return fmt.Sprintf("you are signed in as %s, and push to %s/%s/%s", who, host, path, name)
}

// signInText says how to sign in: as the owner where something is to be written.
func signInText(base *url.URL, wanted []registry.Access) string {
	who, rest := "HANDLE", ""
	for _, w := range wanted {
		if w.Repository == "" || !writes(w.Actions) {
			continue
		}
		first, _, ok := strings.Cut(w.Repository, "/")
		id, err := identity.ParseOwner(first)
		switch {
		case !ok || err != nil:
			rest = fmt.Sprintf(", and push to %s/HANDLE/REPOSITORY: %.64q is no handle", base.Host, first)
		case id.IsHandle():
			who = id.String()
		}
	}
	return fmt.Sprintf("sign in: docker login %s -u %s%s", base.Host, who, rest)
}

// ownerOf resolves a repository name's first part. A name that leads to nobody is ErrDenied: nobody may write there.
func (a *Auth) ownerOf(ctx context.Context, name string) (string, error) {
	first, _, _ := strings.Cut(name, "/")
	id, err := identity.ParseOwner(first)
	if err != nil {
		return "", registry.ErrDenied.With("%.64q is neither a handle nor a DID", first)
	}
	if did, err := id.AsDID(); err == nil {
		return did.String(), nil
	}
	acc, err := a.opts.Directory.Lookup(ctx, id)
	why, never := identity.Unusable(err)
	switch {
	case err == nil:
		return acc.DID.String(), nil
	case never:
		return "", registry.ErrDenied.With("the handle %s leads to an account that can't be used: %s", id, clip(why)).Wrap(err)
	case errors.Is(err, identity.ErrHandleResolutionFailed), errors.Is(err, identity.ErrDIDResolutionFailed):
		return "", registry.ErrUnavailable.With("the handle %s can't be resolved now: try again", id).Wrap(err)
	}
	return "", registry.ErrDenied.With("the handle %s leads to no account", id).Wrap(err)
}

func writes(actions []registry.Action) bool {
	return slices.ContainsFunc(actions, func(a registry.Action) bool { return a != registry.Pull })
}

// onlyPull reports whether anonymous callers may go on: reading repositories, but not /v2/, whose 401 tells clients where
// to get a token.
func onlyPull(wanted []registry.Access) bool {
	for _, w := range wanted {
		if len(w.Actions) == 0 || writes(w.Actions) || w.Upload != "" {
			return false
		}
	}
	return len(wanted) > 0
}

func bearer(r *http.Request) (token string, given bool) {
	h := r.Header.Get("Authorization")
	if h == "" {
		return "", false
	}
	scheme, token, _ := strings.Cut(h, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", true // Basic and others are refused, with the challenge that says what to send
	}
	return strings.TrimSpace(token), true
}

// challengeFor writes the Bearer challenge (RFC 6750 §3, docker token specification).
func challengeFor(base *url.URL, wanted []registry.Access) string {
	var b strings.Builder
	fmt.Fprintf(&b, `Bearer realm="%s/auth/token",service="%s"`, base, base.Host)
	var scopes []string
	for _, w := range wanted {
		if w.Repository != "" && len(w.Actions) > 0 {
			actions := make([]string, len(w.Actions))
			for i, a := range w.Actions {
				actions[i] = string(a)
			}
			if !slices.Contains(w.Actions, registry.Pull) {
				actions = append([]string{string(registry.Pull)}, actions...)
			}
			scopes = append(scopes, "repository:"+w.Repository+":"+strings.Join(actions, ","))
		}
	}
	if len(scopes) > 0 {
		fmt.Fprintf(&b, `,scope="%s"`, strings.Join(scopes, " "))
	}
	return b.String()
}

// ended has a client ask for another token, which is refused with the same words.
func ended(err error, challenge string) error {
	var e *registry.Error
	if errors.As(err, &e) && errors.Is(e, registry.ErrUnauthorized) {
		return e.WithChallenge(challenge + `,error="invalid_token"`)
	}
	return err
}

func unauthorized(challenge, reason, text string) error {
	if reason != "" {
		challenge += `,error="` + reason + `"`
	}
	return registry.ErrUnauthorized.With("%s", text).WithChallenge(challenge)
}
