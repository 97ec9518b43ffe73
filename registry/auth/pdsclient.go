package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/registry"
)

const (
	maxAnswer   = 64 << 10
	callTimeout = 15 * time.Second
)

// xrpcError is a PDS's error answer.
type xrpcError struct {
	status     int
	name       string
	message    string
	retryAfter time.Duration
}

func (e *xrpcError) Error() string {
	return fmt.Sprintf("status %d, %s: %s", e.status, e.name, e.message)
}

// pdsOf returns the URL of an account's PDS, or "" when it has none that could be asked.
func pdsOf(acc *identity.Account, testMode bool) string {
	u, err := url.Parse(strings.TrimRight(acc.PDSEndpoint(), "/"))
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" ||
		u.Scheme != "https" && !(testMode && u.Scheme == "http") {
		return ""
	}
	return u.String()
}

// call does one short XRPC call. in and out may be nil. Errors: *xrpcError for an answer that is not 200, else what hindered it.
func call(ctx context.Context, client *http.Client, method, pds, nsid, token string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, pds+"/xrpc/"+nsid, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	b, err := httpx.ReadLimited(resp, maxAnswer)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return readError(resp, b)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("answer of %s: %w", nsid, err)
	}
	return nil
}

func readError(resp *http.Response, body []byte) *xrpcError {
	e := &xrpcError{status: resp.StatusCode}
	var wire struct{ Error, Message string }
	if json.Unmarshal(body, &wire) == nil {
		e.name, e.message = clip(wire.Error), clip(wire.Message)
	}
	e.retryAfter, _ = httpx.RetryAfter(resp.Header, time.Now())
	return e
}

// down is the error for a PDS that does not answer as it should.
func down(pds string, err error) *registry.Error {
	if errors.Is(err, httpx.ErrForbiddenAddress) { // trying again does not help
		return registry.ErrDenied.With("the account's server %s can't be used: its address is not public, or not one that this registry "+
			"may ask", hostOf(pds)).Wrap(err)
	}
	e := registry.ErrUnavailable.With("the account's server %s does not answer: try again later", hostOf(pds)).Wrap(err)
	e.RetryAfter = 30 * time.Second
	return e
}

// busy passes a PDS's 429 on.
func busy(pds string, e *xrpcError) *registry.Error {
	r := registry.ErrTooManyRequests.With("the account's server %s asks to wait", hostOf(pds)).Wrap(e)
	r.RetryAfter = max(e.retryAfter, time.Second)
	return r
}

func hostOf(s string) string {
	if u, err := url.Parse(s); err == nil {
		return u.Host
	}
	return "?"
}

func clip(s string) string {
	if len(s) > 256 {
		return s[:256]
	}
	return s
}

// accessClaims reads what a PDS's access token says of itself. It is the PDS's word to us, got over its own connection, and not
// checked; a token that is no JWT says nothing.
func accessClaims(token string) (scope string, expires time.Time) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", time.Time{}
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", time.Time{}
	}
	var c struct {
		Scope string  `json:"scope"`
		Exp   float64 `json:"exp"`
	}
	if json.Unmarshal(b, &c) != nil || c.Exp < 0 || c.Exp > 1e11 {
		return "", time.Time{}
	}
	if c.Exp > 0 {
		expires = time.Unix(int64(c.Exp), 0)
	}
	return c.Scope, expires
}
