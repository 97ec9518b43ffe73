package httpx

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func newServer(t *testing.T, h http.HandlerFunc) (ip, name string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL, strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
}

func newTestClient(t *testing.T, opts ClientOptions) *http.Client {
	c := NewClient(opts)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// A name is harmless until it is connected to: the guard sees the address.
func TestClientChecksConnectedAddress(t *testing.T) {
	hits := 0
	ip, name := newServer(t, func(http.ResponseWriter, *http.Request) { hits++ })
	c := newTestClient(t, ClientOptions{})
	for _, u := range []string{ip, name} {
		if resp, err := c.Get(u); !errors.Is(err, ErrForbiddenAddress) {
			t.Errorf("GET %s: %v %v, want ErrForbiddenAddress", u, resp, err)
		}
	}
	if hits != 0 {
		t.Fatalf("%d requests arrived", hits)
	}
	c = newTestClient(t, ClientOptions{Guard: Guard{Loopback: true}})
	if resp, err := c.Get(name); err != nil {
		t.Fatal(err)
	} else {
		Drain(resp)
	}
}

func TestClientChecksRedirectTarget(t *testing.T) {
	hits := 0
	inner, _ := newServer(t, func(http.ResponseWriter, *http.Request) { hits++ })
	_, outer := newServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inner, http.StatusFound) })
	c := newTestClient(t, ClientOptions{Guard: Guard{Hosts: []string{"localhost"}}})
	if _, err := c.Get(outer); !errors.Is(err, ErrForbiddenAddress) {
		t.Fatalf("got %v, want ErrForbiddenAddress", err)
	}
	if hits != 0 {
		t.Fatal("the redirect's target was asked")
	}
}

func TestClientRedirects(t *testing.T) {
	var auth []string
	other, _ := newServer(t, func(_ http.ResponseWriter, r *http.Request) { auth = append(auth, r.Header.Get("Authorization")) })
	loops := 0
	first, _ := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/loop" {
			loops++
			http.Redirect(w, r, "/loop", http.StatusFound)
			return
		}
		http.Redirect(w, r, other, http.StatusTemporaryRedirect)
	})
	c := newTestClient(t, ClientOptions{Guard: Guard{Loopback: true}})
	req, _ := http.NewRequest(http.MethodGet, first+"/", nil)
	req.Header.Set("Authorization", "Bearer secret")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	Drain(resp)
	if len(auth) != 1 || auth[0] != "" {
		t.Errorf("another port of the same host got Authorization %q", auth)
	}
	if _, err := c.Get(first + "/loop"); !errors.Is(err, ErrRedirect) || loops != DefaultMaxRedirects+1 {
		t.Errorf("loop: %d requests, %v", loops, err)
	}
	none := newTestClient(t, ClientOptions{Guard: Guard{Loopback: true}, MaxRedirects: -1})
	if resp, err := none.Get(first + "/loop"); err != nil || resp.StatusCode != http.StatusFound {
		t.Errorf("not following: %v %v", resp, err)
	} else {
		Drain(resp)
	}
	tls := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		http.Redirect(w, r, other, http.StatusFound)
	}))
	defer tls.Close()
	secure := newTestClient(t, ClientOptions{Guard: Guard{Loopback: true}, TLS: tls.Client().Transport.(*http.Transport).TLSClientConfig})
	if _, err := secure.Get(tls.URL); !errors.Is(err, ErrRedirect) {
		t.Errorf("https to http: %v", err)
	}
}

func TestClientIgnoresProxyEnvironment(t *testing.T) {
	ip, _ := newServer(t, func(http.ResponseWriter, *http.Request) {})
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	resp, err := newTestClient(t, ClientOptions{Guard: Guard{Loopback: true}}).Get(ip)
	if err != nil {
		t.Fatal(err)
	}
	Drain(resp)
}

func TestReadLimited(t *testing.T) {
	u, _ := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chunked" {
			w.(http.Flusher).Flush()
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 100))
	})
	c := newTestClient(t, ClientOptions{Guard: Guard{Loopback: true}, UserAgent: "atcr-test"})
	for _, path := range []string{"/", "/chunked"} {
		for limit, ok := range map[int64]bool{99: false, 100: true} {
			resp, err := c.Get(u + path)
			if err != nil {
				t.Fatal(err)
			}
			b, err := ReadLimited(resp, limit)
			if ok != (err == nil) || ok != (len(b) == 100) || !ok && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s with limit %d: %d bytes, %v", path, limit, len(b), err)
			}
		}
	}
}

// One deadline covers the body: a byte a second does not hold a client for ever.
func TestClientSlowBody(t *testing.T) {
	u, _ := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case <-r.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
			_, _ = w.Write([]byte("x"))
			w.(http.Flusher).Flush()
		}
	})
	resp, err := newTestClient(t, ClientOptions{Guard: Guard{Loopback: true}, Timeout: 2 * time.Second}).Get(u)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLimited(resp, 1<<30); err == nil {
		t.Fatal("an endless body ended")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": -1, "0": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-1": -1, "1.5": -1, "soon": -1,
		"99999999999":                       MaxRetryAfter,
		"Fri, 02 Jan 2026 03:04:35 GMT":     30 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT":     0,
		"Friday, 02-Jan-26 03:05:05 GMT":    time.Minute,
		"Fri, 02 Jan 2999 03:04:35 GMT":     MaxRetryAfter,
		"184467440737095516150000000000000": -1,
	} {
		h := http.Header{}
		if v != "" {
			h.Set("Retry-After", v)
		}
		got, ok := RetryAfter(h, now)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %v %v, want %v", v, got, ok, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Fri, 02 Jan 2026 03:04:35 GMT")
	f.Fuzz(func(t *testing.T, v string) {
		d, ok := RetryAfter(http.Header{"Retry-After": {v}}, time.Unix(1767323045, 0))
		if d < 0 || d > MaxRetryAfter || !ok && d != 0 {
			t.Fatalf("%q: %v %v", v, d, ok)
		}
	})
}
