package auth

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"time"
)

// Tokens cost a signature each: one client gets so many a second (A22), and what it asks for is nobody else's loss.
func TestSigningRate(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) {
		o.ClientAddr = func(r *http.Request) netip.Addr { return netip.MustParseAddr(r.Header.Get("X-Test")) }
	})
	ask := func(addr, user, password string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/auth/token?scope=repository:alice.test/app:pull", nil)
		r.Header.Set("X-Test", addr)
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		return f.serve(r)
	}
	count := func(n int, addr, user, password string) (good int) {
		for range n {
			switch w := ask(addr, user, password); w.Code {
			case http.StatusOK:
				good++
			case http.StatusTooManyRequests:
				if s, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || s < 1 {
					t.Fatalf("Retry-After %q", w.Header().Get("Retry-After"))
				}
			default:
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
		return good
	}
	// The account first: its own rate, wherever it signs in.
	if n := count(signingBurst, "203.0.113.1", "alice.test", app); n != signingBurst {
		t.Errorf("%d tokens of an account, want %d", n, signingBurst)
	}
	if n := count(5, "203.0.113.2", "alice.test", app); n != 0 {
		t.Errorf("the account got %d more at another address", n)
	}
	if n := count(signingBurst+50, "203.0.113.1", "", ""); n != signingBurst {
		t.Errorf("%d anonymous tokens at once, want %d: those of the account are not the address's", n, signingBurst)
	}
	if n := count(1, "203.0.113.3", "", ""); n != 1 {
		t.Error("another address got none")
	}
	f.pass(time.Second)
	if n := count(100, "203.0.113.1", "", ""); n != signingsPerSecond {
		t.Errorf("%d tokens in the next second, want %d", n, signingsPerSecond)
	}
	if n := count(1, "203.0.113.1", "alice.test", app); n != 1 {
		t.Error("an account was refused for the anonymous tokens of its address")
	}
}
