package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/auth/oauth"

	"github.com/atcr-dev/atcr/internal/httpx"
)

const (
	maxAnswer   = 64 << 10
	callTimeout = 15 * time.Second
)

// agent makes the requests to the servers that accounts name, which are untrusted: it follows no redirects and reads 64 KiB of an answer.
type agent struct {
	http     *http.Client
	testMode bool
	clock    func() time.Time
	log      *slog.Logger
	keys     *keyring
	nonces   nonces
	timeout  time.Duration // of one call; tests make it short
}

// newAgent fills in a client with the address guard where h is nil.
func newAgent(h *http.Client, testMode bool, clock func() time.Time, log *slog.Logger, keys *keyring) *agent {
	if h == nil {
		h = httpx.NewClient(httpx.ClientOptions{Guard: httpx.Guard{Loopback: testMode}, UserAgent: "atcr"})
	}
	own := *h // the caller's may follow redirects for others
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	own.Jar = nil
	return &agent{http: &own, testMode: testMode, clock: clock, log: log, keys: keys, timeout: callTimeout}
}

// call is one POST to an authorization server.
type call struct {
	endpoint string // where it goes
	issuer   string // of the server: the audience of the client's assertion
	clientID string
	keyID    string // of the client's key; "" is a public client, which proves nothing
	dpop     *atcrypto.PrivateKeyP256
	grant    string // whose nonces: the id of a grant, or of what is to become one
	form     url.Values
}

// refused is an answer that is not 200 or 201.
type refused struct {
	status            int
	code, description string // of RFC 6749 §5.2, as far as there are any
	retryAfter        time.Duration
}

func (r *refused) Error() string {
	if r.code == "" {
		return fmt.Sprintf("status %d", r.status)
	}
	return strings.TrimSuffix(fmt.Sprintf("status %d, %s: %s", r.status, r.code, r.description), ": ")
}

// isRefused reports whether an error is the server's refusal with one of these codes.
func isRefused(err error, codes ...string) bool {
	var r *refused
	if !errors.As(err, &r) || r.status >= 500 || r.status == http.StatusTooManyRequests {
		return false
	}
	for _, c := range codes {
		if r.code == c {
			return true
		}
	}
	return false
}

// post sends a form with the client's assertion and a proof of possession, once more when the server wants another nonce, and returns
// the body of the answer. Errors: *refused; errNoClientKey, before anything is sent; else what hindered it, and then the server may have
// done what was asked.
func (a *agent) post(ctx context.Context, c call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	u, err := url.Parse(c.endpoint)
	if err != nil {
		return nil, fmt.Errorf("address %.200q: %w", c.endpoint, err)
	}
	client, err := a.keys.config(c.clientID, c.keyID)
	if err != nil {
		return nil, err
	}
	nonce := a.nonces.get(c.grant, u)
	for try := 1; ; try++ {
		resp, err := a.postOnce(ctx, c, client, nonce)
		if err != nil {
			return nil, err
		}
		next := a.nonces.saw(c.grant, u, resp.Header)
		body, err := httpx.ReadLimited(resp, maxAnswer)
		if err != nil {
			return nil, fmt.Errorf("answer of %s: %w", u.Host, err)
		}
		if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusCreated {
			return body, nil
		}
		r := a.readRefusal(resp, body)
		if try > 1 || r.code != "use_dpop_nonce" || next == "" || next == nonce {
			return nil, r
		}
		nonce = next
	}
}

func (a *agent) postOnce(ctx context.Context, c call, client *indigo.ClientConfig, nonce string) (*http.Response, error) {
	form := url.Values{"client_id": {c.clientID}}
	for k, v := range c.form {
		form[k] = v
	}
	if client.IsConfidential() {
		// a new one for each try: servers take an assertion once
		assertion, err := client.NewClientAssertion(c.issuer)
		if err != nil {
			return nil, fmt.Errorf("signing as the client: %w", err)
		}
		form.Set("client_assertion_type", indigo.ClientAssertionJWTBearer)
		form.Set("client_assertion", assertion)
	}
	proof, err := indigo.NewAuthDPoP(http.MethodPost, c.endpoint, nonce, c.dpop)
	if err != nil {
		return nil, fmt.Errorf("proving possession of the key: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("DPoP", proof)
	return a.http.Do(req)
}

func (a *agent) readRefusal(resp *http.Response, body []byte) *refused {
	r := &refused{status: resp.StatusCode}
	r.retryAfter, _ = httpx.RetryAfter(resp.Header, a.clock())
	var wire struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &wire) == nil {
		r.code, r.description = plain(wire.Error, 64), plain(wire.Description, 256)
	}
	return r
}

// plain makes text of others fit to be shown in a message: printable, and not long.
func plain(s string, limit int) string {
	s = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
	for i := 0; i < len(s); {
		_, size := utf8.DecodeRuneInString(s[i:])
		if i+size > limit {
			return s[:i] + "…"
		}
		i += size
	}
	return s
}

// serverError is the error for a server that did not do what was asked, where nothing special is known of the reason.
func (a *agent) serverError(server string, err error) *Error {
	host := hostOf(server)
	var r *refused
	switch {
	case errors.As(err, &r) && r.status == http.StatusTooManyRequests:
		e := failed(ErrTooManyRequests, err, "the account's server %s asks to wait", host)
		e.RetryAfter = max(r.retryAfter, time.Second)
		return e
	case errors.As(err, &r) && r.status < 500:
		return failed(ErrUnsupported, err, "the account's server %s does not take sign-ins from here (%s): use an app password", host, r)
	case errors.Is(err, httpx.ErrForbiddenAddress): // trying again does not help
		return failed(ErrUnsupported, err, "the account's server %s can't be used: its address is not public, or not one that may be "+
			"asked from here", host)
	}
	e := failed(ErrUnavailable, err, "the account's server %s does not answer as it should: try again later", host)
	e.RetryAfter = 30 * time.Second
	if r != nil && r.retryAfter > 0 {
		e.RetryAfter = r.retryAfter
	}
	return e
}

func hostOf(s string) string {
	if u, err := url.Parse(s); err == nil && u.Host != "" {
		return plain(u.Host, 253)
	}
	return "?"
}
