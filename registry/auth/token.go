package auth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry"
)

const maxForm = 16 << 10

// tokenRequest is a GET or POST to the token endpoint, parsed.
type tokenRequest struct {
	scopes  []string
	creds   *credentials // nil: anonymous
	offline bool         // a refresh token is asked for
	form    bool         // it is OAuth2's
}

// tokenAnswer is the docker token specification's, and OAuth2's.
type tokenAnswer struct {
	Token       string `json:"token"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	IssuedAt    string `json:"issued_at"`
	// RefreshToken is there when it was asked for; Scope in answers to OAuth2's form.
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope,omitempty"`
}

func (a *Auth) serveToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	answer, err := a.answerToken(w, r)
	if err != nil {
		if errors.Is(err, registry.ErrUnauthorized) {
			w.Header().Set("WWW-Authenticate", `Basic realm="ATCR", charset="UTF-8"`)
		}
		status := writeError(w, err)
		a.signIns.WithLabelValues(resultOf(status)).Inc()
		level := slog.LevelDebug
		switch {
		case r.Context().Err() != nil: // the client has gone
		case status == http.StatusInternalServerError:
			level = slog.LevelError
		case status > http.StatusInternalServerError:
			level = slog.LevelWarn // an account's server, or the directory
		}
		a.opts.Log.Log(r.Context(), level, "token refused", "status", status, "err", err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (a *Auth) answerToken(w http.ResponseWriter, r *http.Request) (*tokenAnswer, error) {
	base, err := a.base.of(r)
	if err != nil {
		return nil, err
	}
	req, err := parseTokenRequest(w, r)
	if err != nil {
		return nil, err
	}
	wanted, ok := parseScopes(req.scopes)
	if !ok {
		return nil, badRequest("more than %d scopes", maxScopes)
	}
	var who account
	client := a.opts.ClientAddr(r)
	payer := addressKey(client)
	if req.creds != nil {
		payer = "sign-in " + payer
	}
	if err := a.paySigning(payer); err != nil {
		return nil, err
	}
	if req.creds != nil {
		if who, err = a.signIn(r.Context(), *req.creds, base, client); err != nil {
			return nil, named(err, base.Host)
		}
		a.signings.Return(payer, 1)
		if err := a.paySigning(who.did); err != nil {
			return nil, err
		}
	}
	if who.pullOnly != nil && !onlyPulls(wanted) {
		return nil, who.pullOnly
	}
	granted := a.grantTo(r.Context(), who, wanted)
	token, issued, err := a.mint(who, granted)
	if err != nil {
		return nil, err
	}
	answer := &tokenAnswer{
		Token: token, AccessToken: token, ExpiresIn: int(tokenLife / time.Second), IssuedAt: issued.UTC().Format(time.RFC3339),
	}
	if req.form {
		answer.Scope = scopeOf(granted)
	}
	if req.offline && who.did != "" && who.token == nil { // who has one of our secrets needs no other
		if answer.RefreshToken, err = a.newLogin(r.Context(), who, req.creds.joinDID().user, client); err != nil {
			return nil, err
		}
	}
	a.signIns.WithLabelValues(map[bool]string{true: "ok", false: "anonymous"}[who.did != ""]).Inc()
	return answer, nil
}

// named puts the registry's name into the command of a refusal.
func named(err error, host string) error {
	var e *registry.Error
	if !errors.As(err, &e) || !strings.Contains(e.Message, "docker login REGISTRY") {
		return err
	}
	return e.With("%s", strings.Replace(e.Message, "docker login REGISTRY", "docker login "+host, 1))
}

// grantTo leaves of what is wanted what one who signed in may have.
func (a *Auth) grantTo(ctx context.Context, who account, wanted []access) []access {
	if who.token != nil && who.token.kind == kindRobot {
		return a.grantRobot(ctx, who.token, wanted)
	}
	return a.grant(ctx, who.did, wanted)
}

// grant leaves of what is wanted what the account may have: pull of everything, the rest in its own namespace.
func (a *Auth) grant(ctx context.Context, did string, wanted []access) []access {
	var granted []access
	mine := a.namespace(ctx, did)
	for _, w := range wanted {
		own := did != "" && slices.ContainsFunc(w.Actions, func(s string) bool { return registry.Action(s) != registry.Pull }) &&
			mine(w.Name)
		var actions []string
		for _, action := range w.Actions {
			if own || registry.Action(action) == registry.Pull {
				actions = append(actions, action)
			}
		}
		if len(actions) > 0 {
			granted = append(granted, access{w.Type, w.Name, actions})
		}
	}
	return granted
}

// namespace returns what reports whether a name lies in an account's own namespace. However many names are asked about, it looks up the
// account once, and one handle that is not the account's as it is remembered: the handle may be newer.
func (a *Auth) namespace(ctx context.Context, did string) func(name string) bool {
	known := map[string]bool{} // first parts of names
	handle := sync.OnceValue(func() string {
		if acc, err := a.opts.Directory.LookupDID(ctx, syntax.DID(did)); err == nil && !acc.Handle.IsInvalidHandle() {
			return acc.Handle.Normalize().String()
		}
		return ""
	})
	asked := false // about another handle
	return func(name string) bool {
		first, _, _ := strings.Cut(name, "/")
		if own, ok := known[first]; ok {
			return own
		}
		id, err := identity.ParseOwner(first)
		if err != nil {
			return false
		}
		own := false
		if h, err := id.AsHandle(); err != nil {
			own = id.String() == did
		} else if own = h.Normalize().String() == handle(); !own && !asked {
			asked = true
			owner, err := a.ownerOf(ctx, first)
			own = err == nil && owner == did
		}
		known[first] = own
		return own
	}
}

// onlyPulls reports whether something is wanted, and nothing but pulls.
func onlyPulls(wanted []access) bool {
	for _, w := range wanted {
		for _, action := range w.Actions {
			if registry.Action(action) != registry.Pull {
				return false
			}
		}
	}
	return len(wanted) > 0
}

func parseTokenRequest(w http.ResponseWriter, r *http.Request) (tokenRequest, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return tokenRequest{}, badRequest("the query can't be read")
	}
	req := tokenRequest{scopes: q["scope"], offline: isTrue(q.Get("offline_token"))}
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			return req, badRequest("the form can't be read, or is longer than %d bytes", maxForm)
		}
		req.scopes, req.form = r.Form["scope"], true
		req.offline = isTrue(r.Form.Get("offline_token")) || r.Form.Get("access_type") == "offline"
		// Secrets count from the body alone: a URL ends up in logs.
		switch grant := r.PostForm.Get("grant_type"); grant {
		case "password":
			req.creds = &credentials{user: r.PostForm.Get("username"), secret: r.PostForm.Get("password")}
		case "refresh_token": // a device's or robot's secret may stand here, too: a helper then needs no user name
			req.creds = &credentials{secret: r.PostForm.Get("refresh_token"), ours: true}
		case "":
		default:
			return req, badRequest("grant_type %.32q: this server takes password and refresh_token", grant)
		}
	}
	if h := r.Header.Get("Authorization"); h != "" && req.creds == nil {
		user, secret, ok := r.BasicAuth()
		if !ok {
			return req, errCredentials.With("sign-in failed: the Authorization header is not Basic")
		}
		req.creds = &credentials{user: user, secret: secret}
	}
	return req, nil
}

func isTrue(s string) bool { b, err := strconv.ParseBool(s); return b && err == nil }

func badRequest(format string, args ...any) error {
	return (&registry.Error{Code: "UNSUPPORTED", Status: http.StatusBadRequest}).With(format, args...)
}

func resultOf(status int) string {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "refused"
	case http.StatusTooManyRequests:
		return "slowed"
	case http.StatusServiceUnavailable:
		return "unavailable"
	case http.StatusBadRequest, http.StatusMisdirectedRequest:
		return "bad_request"
	default:
		return "failed"
	}
}
