package httpx

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
)

// ErrPlainHTTP is wrapped by the error of a request by plain http that was not made; so is [ErrForbiddenAddress].
var ErrPlainHTTP = errors.New("plain http is not allowed")

// CheckPlain is [Guard.Check] for plain http, which anybody on the way can read and answer: it is allowed in test mode, and in the
// networks that the operator opened. Errors wrap [ErrPlainHTTP] or only [ErrForbiddenAddress].
func (g *Guard) CheckPlain(host string, addr netip.Addr) error {
	if err := g.Check(host, addr); err != nil {
		return err
	}
	addr = plain(addr)
	if g.Loopback && addr.IsLoopback() || g.allowsHost(host) || g.allowsNet(addr) {
		return nil
	}
	return fmt.Errorf("%w: %w: %s is asked by https alone", ErrForbiddenAddress, ErrPlainHTTP, addr)
}

func (g *Guard) allowsNet(addr netip.Addr) bool {
	for _, p := range g.Allow {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// schemes sends http and https by connections of their own, and keeps what is secret off the first.
type schemes struct {
	https, http  http.RoundTripper
	secrets      bool // test mode
	publicBodies bool
}

// RoundTrip implements http.RoundTripper.
func (s *schemes) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "http" {
		return s.https.RoundTrip(r)
	}
	if why := s.secret(r); why != "" {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, fmt.Errorf("%w: %w: %s goes to %.100q by https alone", ErrForbiddenAddress, ErrPlainHTTP, why, r.URL.Host)
	}
	return s.http.RoundTrip(r)
}

// secret names what must not be read on the way; empty is nothing.
func (s *schemes) secret(r *http.Request) string {
	if s.secrets {
		return ""
	}
	for _, name := range []string{"Authorization", "Proxy-Authorization", "Cookie", "DPoP", "X-Upload-Id"} {
		if r.Header.Get(name) != "" {
			return "a request with " + name
		}
	}
	if !s.publicBodies && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return "a " + r.Method
	}
	return ""
}

// CloseIdleConnections lets http.Client.CloseIdleConnections through.
func (s *schemes) CloseIdleConnections() {
	closeIdle(s.https)
	closeIdle(s.http)
}
