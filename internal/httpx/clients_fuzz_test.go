package httpx

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// FuzzForwardedFor: what a client writes before the address that a trusted proxy adds changes nothing, and whoever is no trusted proxy
// is the client, whatever it writes.
func FuzzForwardedFor(f *testing.F) {
	for _, s := range []string{"", "198.51.100.1", "10.0.0.1, 198.51.100.1:80", "[2001:db8::1]:7, unknown,", ",,\t 10.0.0.9", "::ffff:10.0.0.1",
		"fe80::1%eth0", "\x00\n203.0.113.9"} {
		f.Add(s, s)
	}
	trusted := prefixes("10.0.0.0/8", "fd00::/8")
	client := netip.MustParseAddr("203.0.113.9")
	of := func(remote string, lines ...string) netip.Addr {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = remote
		r.Header["X-Forwarded-For"] = lines
		var got netip.Addr
		WithClient(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = ClientAddr(r) }),
			VisitOptions{TrustedProxies: trusted, Log: quiet()}).ServeHTTP(httptest.NewRecorder(), r)
		return got
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, lines := range [][]string{{a, b + ", 203.0.113.9"}, {a + "," + b, "203.0.113.9"}, {b, a, "203.0.113.9 , 10.0.0.7"}} {
			if got := of("10.0.0.1:1", lines...); got != client {
				t.Errorf("%q: %s", lines, got)
			}
		}
		if got := of("203.0.113.9:1", a, b); got != client {
			t.Errorf("of nobody's proxy, %q: %s", a, got)
		}
		if got := of("10.0.0.1:1", a, b); !got.IsValid() || got.Zone() != "" || got.Is4In6() || strings.Contains(got.String(), "%") {
			t.Errorf("%q, %q: %s", a, b, got)
		}
	})
}
