package httpx

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestClientAddr(t *testing.T) {
	proxies := prefixes("10.0.0.0/8", "fd00::/8", "::ffff:192.168.0.0/112")
	for _, c := range []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"no proxy", "203.0.113.9:1", nil, "203.0.113.9"},
		{"header of anybody", "203.0.113.9:1", []string{"198.51.100.1"}, "203.0.113.9"},
		{"through a proxy", "10.0.0.1:1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"IPv6 proxy", "[fd00::1]:1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"proxy mapped into IPv6", "[::ffff:10.0.0.1]:1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"network written as mapped", "192.168.0.7:1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"beside that network", "192.169.0.7:1", []string{"203.0.113.9"}, "192.169.0.7"},
		{"what a client sent before", "10.0.0.1:1", []string{"198.51.100.1, 10.9.9.9, 203.0.113.9"}, "203.0.113.9"},
		{"two proxies", "10.0.0.1:1", []string{"198.51.100.1, 203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		{"several lines", "10.0.0.1:1", []string{"198.51.100.1", "203.0.113.9,10.0.0.3", "10.0.0.2"}, "203.0.113.9"},
		{"no header", "10.0.0.1:1", nil, "10.0.0.1"},
		{"proxies alone", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"no address", "10.0.0.1:1", []string{"203.0.113.9, unknown"}, "10.0.0.1"},
		{"no address behind a second proxy", "10.0.0.1:1", []string{"203.0.113.9, _hidden, 10.0.0.2"}, "10.0.0.2"},
		{"empty", "10.0.0.1:1", []string{""}, "10.0.0.1"},
		{"ends with a comma", "10.0.0.1:1", []string{"203.0.113.9,"}, "10.0.0.1"},
		{"with port", "10.0.0.1:1", []string{"203.0.113.9:4711"}, "203.0.113.9"},
		{"IPv6 with port", "10.0.0.1:1", []string{"[2001:db8:1:2:3::4]:4711"}, "2001:db8:1:2::"},
		{"IPv6 in brackets", "10.0.0.1:1", []string{"[2001:db8:1:2:3::4]"}, "2001:db8:1:2::"},
		{"IPv6", "[2001:db8:1:2:3::4]:1", nil, "2001:db8:1:2::"},
		{"mapped", "[::ffff:203.0.113.9]:1", nil, "203.0.113.9"},
		{"NAT64", "[64:ff9b::203.0.113.9]:1", nil, "203.0.113.9"},
		{"loopback", "[::1]:1", nil, "::1"},
		{"link", "[fe80::7%eth0]:1", nil, "fe80::7"},
		{"Unix socket", "@", []string{"203.0.113.9"}, "invalid IP"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.remote
		r.Header["X-Forwarded-For"] = c.forwarded
		r.Header.Set("Forwarded", "for=192.0.2.77")
		var byRequest, byContext netip.Addr
		WithClient(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			byRequest, byContext = ClientAddr(r), Client(r.Context())
		}), VisitOptions{TrustedProxies: proxies, Log: quiet()}).ServeHTTP(httptest.NewRecorder(), r)
		if byRequest.String() != c.want || byContext != byRequest {
			t.Errorf("%s: %s and %s, want %s", c.name, byRequest, byContext, c.want)
		}
		if r.Header["X-Forwarded-For"] = nil; !strings.HasPrefix(c.name, "no proxy") {
			continue
		}
		if got := ClientAddr(r); got.String() != c.want {
			t.Errorf("%s: outside of WithClient %s", c.name, got)
		}
	}
}

func TestClientKey(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil) // of 192.0.2.1
	WithClient(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if got := ClientKey(r.Context(), ""); got != "192.0.2.1" {
			t.Error(got)
		}
		if got := ClientKey(r.Context(), "did:web:a.test"); got != "did:web:a.test" {
			t.Error(got)
		}
	}), VisitOptions{}).ServeHTTP(httptest.NewRecorder(), r)
}

func TestCheckProxies(t *testing.T) {
	for s, ok := range map[string]bool{"10.0.0.0/8": true, "10.0.0.2/32": true, "fd00::/8": true, "::ffff:10.0.0.0/104": true,
		"0.0.0.0/0": false, "::/0": false, "::ffff:0.0.0.0/96": false} {
		if err := CheckProxies(prefixes(s)); (err == nil) != ok {
			t.Errorf("%s: %v", s, err)
		}
	}
	if CheckProxies([]netip.Prefix{{}}) == nil {
		t.Error("the zero Prefix was taken")
	}
}

// Who comes by a trusted proxy has so many requests at once, whatever connections the proxy makes of them; with a verified token they
// count by its DID.
func TestClientRequests(t *testing.T) {
	entered, leave := make(chan bool), make(chan struct{})
	h := WithClient(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		did := r.Header.Get("DID")
		room := did == "" || CountBy(r.Context(), did)
		entered <- room
		<-leave
		if (did == "" || room) && !CountBy(r.Context(), did) { // one without room may have got it meanwhile
			t.Error("asked again, it counts otherwise")
		}
	}), VisitOptions{TrustedProxies: prefixes("10.0.0.0/8"), MaxRequests: 2, Log: quiet()})
	var wg sync.WaitGroup
	ask := func(remote, client, did string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = remote
		r.Header.Set("X-Forwarded-For", client)
		r.Header.Set("DID", did)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	enter := func(remote, client, did string, want bool) {
		t.Helper()
		wg.Go(func() { ask(remote, client, did) })
		if room := <-entered; room != want {
			t.Errorf("%s for %s %s: %v", remote, client, did, room)
		}
	}
	for range 2 {
		enter("10.0.0.1:1", "203.0.113.1", "", true)
	}
	if w := ask("10.0.0.1:1", "203.0.113.1", ""); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("a third: %d %v", w.Code, w.Header())
	}
	enter("10.0.0.1:1", "203.0.113.2", "", true) // another client of the same proxy
	for range 3 {
		enter("203.0.113.7:1", "203.0.113.1", "", true) // no proxy: its connections are counted
	}
	// One address with many people's tokens.
	for _, did := range []string{"did:web:a.test", "did:web:b.test", "did:web:c.test", "did:web:a.test"} {
		enter("10.0.0.1:1", "203.0.113.9", did, true)
	}
	enter("10.0.0.1:1", "203.0.113.8", "did:web:a.test", false)
	close(leave)
	wg.Wait()
	leave = make(chan struct{})
	for range 2 { // all places were left
		enter("10.0.0.1:1", "203.0.113.1", "", true)
		enter("10.0.0.1:1", "203.0.113.9", "did:web:a.test", true)
	}
	close(leave)
	wg.Wait()
}

// An operator whose proxy is not named is told once.
func TestUntrustedProxyIsNamed(t *testing.T) {
	var out strings.Builder
	h := WithClient(http.NotFoundHandler(), VisitOptions{Log: slog.New(slog.NewTextHandler(&out, nil))})
	for _, remote := range []string{"203.0.114.7:1", "10.0.0.7:1", "127.0.0.1:1"} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = remote
		r.Header.Set("X-Forwarded-For", "203.0.113.1")
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "server.trusted_proxies") || !strings.Contains(got, "10.0.0.7") {
		t.Error(got)
	}
}
