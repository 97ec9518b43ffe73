package httpx

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// Plain http goes where test mode or the operator opened a network, nowhere else.
func TestCheckPlain(t *testing.T) {
	guards := map[string]Guard{
		"public": {},
		"test":   {Loopback: true, Hosts: []string{"pds.internal"}},
		"net":    {Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("8.8.0.0/16")}},
	}
	for _, c := range []struct{ addr, host, ok string }{
		{"1.1.1.1", "", ""},
		{"2606:4700::1111", "", ""},
		{"64:ff9b::1.1.1.1", "", ""},
		{"8.8.8.8", "", "net"},
		{"::ffff:8.8.8.8", "", "net"},
		{"127.0.0.1", "", "test"},
		{"::1", "", "test"},
		{"10.1.2.3", "", "net"},
		{"10.1.2.3", "pds.internal", "test net"},
		{"1.1.1.1", "pds.internal", "test"},
		{"10.2.2.3", "", ""},
		{"169.254.169.254", "pds.internal", ""},
	} {
		for name, g := range guards {
			err := g.CheckPlain(c.host, netip.MustParseAddr(c.addr))
			if want := contains(c.ok, name); (err == nil) != want || err != nil && !errors.Is(err, ErrForbiddenAddress) {
				t.Errorf("guard %s, %s for host %q: %v, want allowed=%v", name, c.addr, c.host, err, want)
			}
		}
	}
}

// What is secret goes by plain http in test mode alone: no token, no right to an upload, nothing that is posted.
func TestNoSecretsByPlainHTTP(t *testing.T) {
	var hits atomic.Int64
	ip, _ := newServer(t, func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	allow := Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for name, c := range map[string]struct {
		opts ClientOptions
		ok   string
	}{
		"operator's network": {ClientOptions{Guard: allow}, "GET HEAD"},
		"public bodies":      {ClientOptions{Guard: allow, PublicBodies: true}, "GET HEAD POST PUT"},
		"test mode":          {ClientOptions{Guard: Guard{Loopback: true}}, "GET HEAD POST PUT Authorization DPoP Cookie X-Upload-Id"},
		"public":             {ClientOptions{}, ""},
	} {
		client := newTestClient(t, c.opts)
		for _, what := range []string{"GET", "HEAD", "POST", "PUT", "Authorization", "DPoP", "Cookie", "X-Upload-Id"} {
			verb := what
			if strings.ToUpper(what) != what {
				verb = http.MethodGet
			}
			req, err := http.NewRequestWithContext(t.Context(), verb, ip, nil)
			if err != nil {
				t.Fatal(err)
			}
			if verb != what {
				req.Header.Set(what, "secret")
			}
			before := hits.Load()
			resp, err := client.Do(req)
			if want := contains(c.ok, what); (err == nil) != want || hits.Load() != before && !want {
				t.Errorf("%s, %s: %v, want sent=%v", name, what, err, want)
			}
			if err == nil {
				Drain(resp)
			} else if !errors.Is(err, ErrForbiddenAddress) {
				t.Errorf("%s, %s: %v", name, what, err)
			} else if name != "public" && !errors.Is(err, ErrPlainHTTP) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// A redirect by plain http is looked at as well.
func TestRedirectByPlainHTTP(t *testing.T) {
	hits := 0
	inner, _ := newServer(t, func(_ http.ResponseWriter, r *http.Request) { hits++ })
	outer, _ := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(inner, "127.0.0.1", "127.0.0.2", 1), http.StatusFound)
	})
	c := newTestClient(t, ClientOptions{Guard: Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}})
	if _, err := c.Get(outer); !errors.Is(err, ErrForbiddenAddress) || hits != 0 {
		t.Errorf("%v, %d requests arrived", err, hits)
	}
}
