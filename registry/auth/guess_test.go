package auth

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// byAddress makes a fixture whose clients have the address that a test gives.
func byAddress(t *testing.T) (f *fixture, signIn func(addr, user, password string) int) {
	f = newFixture(t, func(o *Options) {
		o.ClientAddr = func(r *http.Request) netip.Addr { return netip.MustParseAddr(r.Header.Get("X-Test")) }
	})
	return f, func(addr, user, password string) int {
		r := httptest.NewRequest(http.MethodGet, "/auth/token", nil)
		r.Header.Set("X-Test", addr)
		r.SetBasicAuth(user, password)
		return f.serve(r).Code
	}
}

func TestGuessing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	asked := func() int { return f.pds.count("com.atproto.server.createSession") }
	for i := range pairBurst {
		if w := f.get("alice.test", "wrong"); w.Code != 401 {
			t.Fatalf("guess %d: %d", i, w.Code)
		}
	}
	before := asked()
	w := f.get("alice.test", "wrong")
	if w.Code != 429 || code(t, w) != "TOOMANYREQUESTS" || w.Header().Get("Retry-After") != "30" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	if w := f.get("did-plc-"+alice[8:], "wrong"); w.Code != 429 {
		t.Error("another spelling of the account guesses on:", w.Code)
	}
	if asked() != before {
		t.Error("the PDS was asked")
	}
	f.pass(30 * time.Second)
	if w := f.get("alice.test", "wrong"); w.Code != 401 {
		t.Error("after the wait:", w.Code)
	}
	f.pass(30 * time.Second)
	f.token("alice.test", app)
	for f.get("alice.test", "wrong").Code == 401 {
	}
	f.token("alice.test", app) // a password known to be good never waits
	// Unknown accounts are slowed in the same way.
	for range pairBurst {
		f.get("nobody.test", "x")
	}
	if w := f.get("nobody.test", "x"); w.Code != 429 {
		t.Error("unknown account:", w.Code)
	}
}

func TestGuessingByAddress(t *testing.T) {
	t.Parallel()
	_, signIn := byAddress(t)
	for i := range addressBurst {
		if c := signIn("2001:db8::1", "u"+string(rune('a'+i))+".test", "x"); c != 401 {
			t.Fatal(i, c)
		}
	}
	if c := signIn("2001:db8::2", "another.test", "x"); c != 429 {
		t.Error("the same network:", c)
	}
	if c := signIn("2001:db8:1::1", "another.test", "x"); c != 401 {
		t.Error("another network:", c)
	}
	// One client that guesses keeps no other from signing in for the first time.
	if c := signIn("203.0.113.7", "alice.test", app); c != 200 {
		t.Error("first sign-in from elsewhere:", c)
	}
	// X-Forwarded-For is not looked at.
	f := newFixture(t, nil)
	last := 0
	for i := range addressBurst + 1 {
		r := httptest.NewRequest(http.MethodGet, "/auth/token", nil)
		r.Header.Set("X-Forwarded-For", "203.0.113."+string(rune('0'+i%10)))
		r.SetBasicAuth("v"+string(rune('a'+i))+".test", "x")
		last = f.serve(r).Code
	}
	if last != 429 {
		t.Error("a made-up address escaped:", last)
	}
}

// Guesses at an account by others lock nobody out of it who signed in from where they are, and a few of them nobody at all.
func TestGuessingDoesNotLockOut(t *testing.T) {
	t.Parallel()
	f, signIn := byAddress(t)
	for range pairBurst + 1 {
		signIn("192.0.2.1", "alice.test", "wrong")
	}
	if c := signIn("192.0.2.1", "alice.test", "wrong"); c != 429 {
		t.Fatal("one client guesses on:", c)
	}
	const home = "203.0.113.7"
	if c := signIn(home, "alice.test", app); c != 200 {
		t.Error("her first sign-in, while another guesses:", c)
	}
	crowd := func() (slowed bool) {
		for i := range 20 {
			for range pairBurst {
				slowed = slowed || signIn("198.51.100."+strconv.Itoa(i), "alice.test", "wrong") == 429
			}
		}
		return slowed
	}
	if !crowd() {
		t.Fatal("a crowd is not slowed at one account")
	}
	if n := f.pds.count("com.atproto.server.createSession"); n > accountBurst+pairBurst+5 {
		t.Errorf("%d guesses reached the PDS", n)
	}
	if c := signIn(home, "alice.test", app+"-2"); c != 200 {
		t.Error("a new password where she signed in before, while a crowd guesses:", c)
	}
	if c := signIn("203.0.113.8", "alice.test", app); c != 200 {
		t.Error("a known password from anywhere:", c)
	}
	if c := signIn("203.0.113.9", "alice.test", app+"-3"); c != 429 {
		t.Error("a new password from a new address, while a crowd guesses:", c)
	}
	// She has a bucket of her own there, which is not endless.
	for range pairBurst {
		signIn(home, "alice.test", "wrong")
	}
	if c := signIn(home, "alice.test", "wrong"); c != 429 {
		t.Error("where she signed in before guesses are free:", c)
	}
}

// New sessions cost a little, too: with a PDS of one's own every password is right.
func TestRightPasswordsAreSlowed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	made := 0
	for i := range 600 {
		if f.get("alice.test", app+strconv.Itoa(i)).Code == 200 {
			made++
		}
	}
	if made < 20 || made > addressBurst/rightCost {
		t.Errorf("%d of 600 sign-ins with other passwords went through at once", made)
	}
}

// Many guesses at once don't slip through together.
func TestGuessingAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() { f.get("alice.test", "wrong") })
	}
	wg.Wait()
	if n := f.pds.count("com.atproto.server.createSession"); n > pairBurst {
		t.Errorf("%d guesses reached the PDS", n)
	}
}

func TestGuessLimiterIsBounded(t *testing.T) {
	t.Parallel()
	g := newGuessLimiter()
	for i := range maxKnown {
		addr := netip.AddrFrom4([4]byte{1, 2, byte(i >> 8), byte(i)})
		_, _ = g.pay(strings.Repeat("x", i%7)+time.Duration(i).String(), addr, time.Unix(0, 0))
		g.signedIn("y"+time.Duration(i).String(), addr)
	}
	g.signedIn("z", netip.IPv6Loopback())
	if g.known.order.Len() > maxKnown || len(g.known.byKey) != g.known.order.Len() {
		t.Error(g.known.order.Len())
	}
}
