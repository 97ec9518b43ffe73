package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry"
)

const (
	maxUser     = 512
	maxPassword = 1024
	// trustUnchecked is how long a known password may pull while its server is down.
	trustUnchecked = 24 * time.Hour
	fullAccess     = "com.atproto.access" // the scope of a session made by the main password
)

// account is who signed in; the zero value is anonymous.
type account struct {
	did, session, method string
	token                *Token // the refresh token, device or robot that signed in; nil: a password
	// pullOnly: the password is known to be good, but its server could not be asked just now.
	pullOnly error
}

// Errors of a sign-in, besides those that name a server.
var (
	// errCredentials is one for all that would tell whether there is an account, and how far a guess was right.
	errCredentials = registry.ErrUnauthorized.With("sign-in failed: " +
		"use your handle and an app password of your account: docker login REGISTRY -u HANDLE")
	errMainPassword = registry.ErrDenied.With("this is the account's main password, which gives full access: " +
		"make an app password in your account's settings (Privacy and security, App passwords) and sign in with that")
)

// credentials are a user name and a secret as a client sent them.
type credentials struct {
	user   string
	secret string
	ours   bool // nothing but a secret of this registry can be meant
}

// joinDID puts a DID together that Basic cut at its first colon: user "did", password "plc:…:SECRET".
func (c credentials) joinDID() credentials {
	if !strings.EqualFold(c.user, "did") {
		return c
	}
	method, rest, ok1 := strings.Cut(c.secret, ":")
	id, secret, ok2 := strings.Cut(rest, ":")
	if !ok1 || !ok2 || method != "plc" && method != "web" {
		return c
	}
	return credentials{user: "did:" + method + ":" + id, secret: secret}
}

// signIn checks credentials. Errors: errCredentials and those of [malformed], errMainPassword, ErrTooManyRequests, ErrUnavailable.
func (a *Auth) signIn(ctx context.Context, c credentials, base *url.URL, addr netip.Addr) (account, error) {
	if c.ours || isSecret(c.secret) {
		return a.signInBySecret(ctx, c.secret, base, addr)
	}
	if c = c.joinDID(); isSecret(c.secret) {
		return a.signInBySecret(ctx, c.secret, base, addr)
	}
	id, ok := parseUser(c.user)
	if !ok || c.secret == "" || len(c.user) > maxUser || len(c.secret) > maxPassword {
		id = "" // pays as a guess, like every other
	}
	var acc *identity.Account
	var lookup error
	if id != "" {
		acc, lookup = a.opts.Directory.Lookup(ctx, id)
		if unresolved(lookup) {
			return account{}, registry.ErrUnavailable.With("%.128s can't be resolved now: try again", id).Wrap(lookup)
		}
	}
	pds := ""
	if acc != nil {
		pds = pdsOf(acc, a.opts.TestMode)
	}
	if pds != "" {
		who, known, err := a.knownPassword(ctx, acc.DID, c.secret, pds)
		if !known && err == nil { // jobs that begin at the same moment sign in once
			unlock, waited := a.sessions.locks.Lock(ctx, "sign in "+string(a.sessions.store.sealer.mac(0, acc.DID.String(), c.secret)))
			if waited != nil {
				return account{}, waited
			}
			defer unlock()
			who, known, err = a.knownPassword(ctx, acc.DID, c.secret, pds)
		}
		if known {
			a.guesses.signedIn(guessKey(acc, c.user), addr)
		}
		if known || err != nil {
			return who, err
		}
	}
	refund, err := a.guesses.pay(guessKey(acc, c.user), addr, a.opts.Clock())
	if err != nil {
		return account{}, err
	}
	if id == "" {
		return account{}, malformed(c)
	}
	if pds == "" {
		return account{}, errCredentials.Wrap(fmt.Errorf("%.128q has no account: %w", c.user, errors.Join(lookup, errNoPDS)))
	}
	who, err := a.createSession(ctx, acc.DID, c.secret, pds)
	if !errors.Is(err, registry.ErrUnauthorized) {
		refund()
	}
	if err == nil {
		a.guesses.signedIn(guessKey(acc, c.user), addr)
	}
	return who, err
}

// SignIn checks a user name and an app password, as the token endpoint does, and returns the account and its session: for a page.
// client is whose guesses are counted. Errors: ErrUnauthorized, ErrDenied, ErrTooManyRequests with RetryAfter, ErrUnavailable of package
// registry.
func (a *Auth) SignIn(ctx context.Context, user, password string, client netip.Addr) (did, session string, err error) {
	c := credentials{user: user, secret: password}.joinDID()
	if isSecret(c.secret) {
		return "", "", registry.ErrUnauthorized.With("sign-in failed: that is a secret for docker and other programs: use an app password")
	}
	who, err := a.signIn(ctx, c, nil, client)
	if err == nil {
		err = who.pullOnly
	}
	if err == nil {
		return who.did, who.session, nil
	}
	var e *registry.Error
	if errors.As(err, &e) {
		text, _, _ := strings.Cut(e.Message, "docker login")
		err = e.With("%s", strings.TrimRight(strings.TrimSuffix(text, "as in "), " :,"))
	}
	return "", "", err
}

// malformed says what is wrong with credentials that can be nobody's, which tells nothing about accounts.
func malformed(c credentials) error {
	user := strings.TrimPrefix(strings.TrimSpace(c.user), "@")
	const remedy = "sign in with your handle, such as alice.bsky.social: docker login REGISTRY -u HANDLE"
	switch {
	case user == "":
		return registry.ErrUnauthorized.With("sign-in failed: there is no user name: %s", remedy)
	case len(c.user) > maxUser || len(c.secret) > maxPassword:
		return registry.ErrUnauthorized.With("sign-in failed: a user name has at most %d bytes, a password %d", maxUser, maxPassword)
	case strings.Contains(user, "@"):
		return registry.ErrUnauthorized.With("sign-in failed: %.64q is an e-mail address: %s", user, remedy)
	case c.secret == "":
		return registry.ErrUnauthorized.With("sign-in failed: there is no password: make an app password in your account's settings")
	}
	if _, ok := parseUser(user + ".bsky.social"); ok && !strings.EqualFold(user, "did") && !strings.Contains(user, ".") {
		return registry.ErrUnauthorized.With("sign-in failed: %q is a handle without its domain: "+
			"sign in with all of it, as in docker login REGISTRY -u %s.bsky.social", user, strings.ToLower(user))
	}
	return registry.ErrUnauthorized.With("sign-in failed: %.64q is neither a handle nor a DID: %s", user, remedy)
}

var errNoPDS = errors.New("no server to ask")

// unresolved reports whether an account may be there, and can't be asked about now.
func unresolved(err error) bool {
	if _, never := identity.Unusable(err); never {
		return false
	}
	return errors.Is(err, identity.ErrDIDResolutionFailed) || errors.Is(err, identity.ErrHandleResolutionFailed)
}

// guessKey is one for all spellings of an account.
func guessKey(acc *identity.Account, user string) string {
	if acc != nil {
		return acc.DID.String()
	}
	user = strings.ToLower(user)
	return user[:min(len(user), 64)]
}

// knownPassword returns the session that this password made before, if the PDS has confirmed it within ten minutes or does
// now. While the PDS is down the account is known all the same for a day, for pulling.
func (a *Auth) knownPassword(ctx context.Context, did syntax.DID, secret, pds string) (who account, known bool, err error) {
	e, err := a.sessions.store.byPassword(ctx, did.String(), secret)
	if err != nil || e == nil || e.pds != pds {
		return account{}, false, err
	}
	who = account{did: e.did, session: e.id, method: "app_password"}
	_, err = a.sessions.fresh(ctx, e)
	switch {
	case errors.Is(err, registry.ErrUnauthorized):
		return account{}, false, nil // perhaps an app password made anew: let the PDS decide
	case errors.Is(err, registry.ErrUnavailable), errors.Is(err, registry.ErrTooManyRequests):
		if a.opts.Clock().Sub(e.checked) > trustUnchecked {
			return account{}, false, err
		}
		who.pullOnly = err
		return who, true, nil
	case err != nil:
		return account{}, false, err
	}
	return who, true, nil
}

// createSession asks the PDS about a password and stores the session.
func (a *Auth) createSession(ctx context.Context, did syntax.DID, secret, pds string) (account, error) {
	var out struct {
		AccessJwt, RefreshJwt, Did string
		Active                     *bool
	}
	in := map[string]string{"identifier": did.String(), "password": secret}
	err := call(ctx, a.opts.HTTP, http.MethodPost, pds, "com.atproto.server.createSession", "", in, &out)
	var x *xrpcError
	switch {
	case errors.As(err, &x) && x.name == "AuthFactorTokenRequired":
		return account{}, errMainPassword.Wrap(x) // only a main password has a second factor
	case errors.As(err, &x) && x.status == http.StatusTooManyRequests:
		return account{}, busy(pds, x)
	case errors.As(err, &x) && x.status >= 400 && x.status < 500:
		return account{}, errCredentials.Wrap(x)
	case err != nil:
		return account{}, down(pds, err)
	case out.Did != did.String() || out.AccessJwt == "" || out.RefreshJwt == "" || out.Active != nil && !*out.Active:
		return account{}, errCredentials.Wrap(errors.New("the server answered for another or an inactive account"))
	case len(out.AccessJwt) > maxPDSToken || len(out.RefreshJwt) > maxPDSToken:
		return account{}, tooLong(pds)
	}
	if scope, _ := accessClaims(out.AccessJwt); scope == fullAccess && !a.opts.AllowAccountPassword {
		a.endAt(ctx, did, pds, out.RefreshJwt)
		return account{}, errMainPassword
	}
	// The PDS has made the session: it is stored even when the client has gone.
	id, err := a.sessions.add(context.WithoutCancel(ctx), did.String(), secret, pds, tokens{out.AccessJwt, out.RefreshJwt})
	if err != nil {
		a.endAt(ctx, did, pds, out.RefreshJwt)
		return account{}, err
	}
	return account{did: did.String(), session: id, method: "app_password"}, nil
}

// endAt ends a session that is not kept at its PDS.
func (a *Auth) endAt(ctx context.Context, did syntax.DID, pds, refresh string) {
	ctx = context.WithoutCancel(ctx)
	if err := call(ctx, a.opts.HTTP, http.MethodPost, pds, "com.atproto.server.deleteSession", refresh, nil, nil); err != nil {
		a.opts.Log.Debug("ending a session that is not kept", "did", did, "err", err)
	}
}

func decode(b []byte, out any) error {
	if err := json.Unmarshal(b, out); err != nil {
		return registry.ErrUnavailable.With("the account's server gave an answer that can't be read").Wrap(err)
	}
	return nil
}
