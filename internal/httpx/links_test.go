package httpx

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// names is a resolver of the test's own.
type names struct {
	mu    sync.Mutex
	addrs map[string]string
	asked map[string]int
	err   error
}

func (n *names) lookup(_ context.Context, _, host string) (out []netip.Addr, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked[host]++
	if n.err != nil {
		return nil, n.err
	}
	for _, a := range strings.Fields(n.addrs[host]) {
		out = append(out, netip.MustParseAddr(a))
	}
	if out == nil {
		err = &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return out, err
}

func newNames() *names {
	return &names{asked: map[string]int{}, addrs: map[string]string{
		"hold.example.com": "1.1.1.1 2606:4700::1111", "bucket.example.com": "8.8.8.8", "inward.example.com": "127.0.0.1",
		"both.example.com": "8.8.8.8 10.1.2.3", "meta.example.com": "169.254.169.254",
		"hold.lan": "10.1.0.5", "minio.lan": "10.1.0.6", "far.lan": "10.2.0.6", "office.lan": "192.168.1.1", "v6.lan": "fd12::6",
		"dual.lan": "10.1.0.7 fd12::7", "mapped.lan": "::ffff:10.1.0.6", "tunnel.lan": "64:ff9b::a01:6",
		"test.hold": "127.0.0.1", "1e100.net": "8.8.4.4",
	}}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	guards := map[string]Guard{
		"public": {}, "test": {Loopback: true},
		"lan": {Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd12::/16"),
			netip.MustParsePrefix("192.168.0.0/16")}},
		"any": AnyNetwork(),
	}
	for _, c := range []struct{ from, link, ok string }{
		{"https://hold.example.com", "https://bucket.example.com/x?signature=1", "public test lan any"},
		{"https://hold.example.com", "https://1e100.net/", "public test lan any"},
		{"https://hold.example.com", "https://8.8.8.8:9000/", "public test lan any"},
		{"https://hold.example.com", "http://169.254.169.254/latest/meta-data/", ""},
		{"https://hold.example.com", "http://meta.example.com/", ""},
		{"https://hold.example.com", "http://127.0.0.1:22/", ""},
		{"https://hold.example.com", "http://localhost:22/", ""},
		{"https://hold.example.com", "http://a.localhost./", ""},
		{"https://hold.example.com", "http://inward.example.com/", ""},
		{"https://hold.example.com", "http://both.example.com/", ""},
		{"https://hold.example.com", "http://192.168.1.1/", ""},
		{"https://hold.example.com", "http://minio.lan/", ""},
		{"https://hold.example.com", "http://nowhere.example.com/", ""},
		{"https://hold.example.com", "http://[::ffff:127.0.0.1]/", ""},
		{"https://hold.example.com", "http://[fe80::1]/", ""},
		{"https://hold.example.com", "http://2130706433/", ""},
		{"https://hold.example.com", "http://0x7f.0.0.0x1/", ""},
		{"https://hold.example.com", "http://017700000001/", ""},
		{"https://hold.example.com", "http://127.1/", ""},
		{"https://hold.example.com", "http://①②⑦.0.0.1/", ""},
		{"https://hold.example.com", "http://a..example.com/", ""},
		// a hold that is itself there
		{"http://hold.lan:8080", "http://minio.lan:9000/b", "lan any"},
		{"http://hold.lan:8080", "http://10.1.0.6:9000/b", "lan any"},
		{"http://hold.lan:8080", "http://mapped.lan:9000/b", "lan any"},
		{"http://dual.lan:8080", "http://v6.lan:9000/b", "lan any"},
		{"http://hold.lan:8080", "http://far.lan/", "any"},
		{"http://hold.lan:8080", "http://office.lan/", ""},
		{"http://hold.lan:8080", "http://tunnel.lan/", ""},
		{"http://hold.lan:8080", "http://127.0.0.1/", ""},
		{"http://hold.lan:8080", "https://bucket.example.com/x", "public test lan any"},
		{"http://test.hold:8080", "http://localhost:9000/", "test any"},
		{"http://127.0.0.1:8080", "http://[::1]:9000/", "test any"},
		{"http://127.0.0.1:8080", "http://169.254.169.254/", ""},
		{"http://127.0.0.1:8080", "http://10.1.0.6/", ""},
		// who is in public, too, is not known to be there
		{"http://both.example.com", "http://10.1.0.6/", ""},
		{"http://both.example.com", "http://both.example.com/", ""},
		// its own address
		{"https://hold.example.com", "https://hold.example.com/x", "public test lan any"},
		{"https://unresolved.example.com", "https://unresolved.example.com/x", "public test lan any"},
	} {
		from, link := parse(t, c.from), parse(t, c.link)
		for name, g := range guards {
			l := NewLinks(LinkOptions{Guard: g, Lookup: newNames().lookup})
			err := l.Check(t.Context(), from, link)
			if want := contains(c.ok, name); (err == nil) != want || err != nil && !errors.Is(err, ErrForbiddenAddress) {
				t.Errorf("guard %s, %s to %s: %v, want allowed=%v", name, c.from, c.link, err, want)
			}
		}
	}
}

func parse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Names are looked up once a minute, however many ask; a failed look-up is tried again soon, and refuses nothing for good.
func TestLinksLookUps(t *testing.T) {
	t.Parallel()
	n, now := newNames(), time.Unix(1_800_000_000, 0)
	l := NewLinks(LinkOptions{Lookup: n.lookup, Clock: func() time.Time { return now }})
	from, link := parse(t, "https://hold.example.com"), parse(t, "https://bucket.example.com/x")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := l.Check(t.Context(), from, link); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n.asked["bucket.example.com"] != 1 {
		t.Errorf("looked up %d times", n.asked["bucket.example.com"])
	}
	n.addrs["bucket.example.com"] = "127.0.0.1" // it changes after it was looked at
	now = now.Add(linkNamesFor)
	if err := l.Check(t.Context(), from, link); !errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("a minute later: %v", err)
	}
	now = now.Add(linkNamesFor)
	n.err = &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	if err := l.Check(t.Context(), from, link); err == nil || errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("the resolver fails: %v", err)
	}
	if err := l.Check(t.Context(), link, link); err != nil {
		t.Errorf("the server's own address, which only others can look up: %v", err)
	}
	n.err, n.addrs["bucket.example.com"] = nil, "8.8.8.8"
	now = now.Add(linkFailedFor)
	if err := l.Check(t.Context(), from, link); err != nil {
		t.Errorf("the resolver works again: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	slow := NewLinks(LinkOptions{Lookup: func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
		<-t.Context().Done()
		return nil, t.Context().Err()
	}})
	if err := slow.Check(ctx, from, link); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who has gone: %v", err)
	}
}

func TestLinksAreBounded(t *testing.T) {
	t.Parallel()
	l := NewLinks(LinkOptions{Lookup: newNames().lookup})
	from := parse(t, "https://hold.example.com")
	for i := range maxLinkNames + 50 {
		u := *from
		u.Host = "h" + strconv.Itoa(i) + ".example.com"
		_ = l.Check(t.Context(), from, &u)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.names) > maxLinkNames {
		t.Error(len(l.names))
	}
}

// Names are their owners' to change: where the server was connected to counts, and so does where its link is connected to.
func TestLinksOfNamesThatChange(t *testing.T) {
	t.Parallel()
	served, _ := newServer(t, func(http.ResponseWriter, *http.Request) {})
	dial := func(to string) *http.Client { // every name leads to one server
		return &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, to)
			},
		}}
	}
	at := strings.TrimPrefix(served, "http://")
	n := newNames()
	l := NewLinks(LinkOptions{Guard: AnyNetwork(), Lookup: n.lookup})
	ask := func(ctx context.Context, url string) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := dial(at).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	hold := parse(t, "http://hold.lan")
	ctx := WithPeer(t.Context(), hold.String())
	if WithPeer(ctx, "http://other.lan") != ctx {
		t.Error("noted twice")
	}
	ask(ctx, "http://bucket.example.com/") // not its own address
	if peerOf(ctx).IsValid() {
		t.Error("another server's address was noted")
	}
	ask(ctx, hold.String()+"/x")
	if peerOf(ctx) != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		t.Fatal(peerOf(ctx))
	}
	// It was on loopback, whatever its name leads to now.
	n.addrs["hold.lan"] = "127.0.0.1"
	if err := l.Check(ctx, hold, parse(t, "http://localhost:9000/")); err != nil {
		t.Error(err)
	}
	// It was in public, and calls itself private.
	pub := context.WithValue(t.Context(), peerKey{}, &peer{addr: netip.MustParseAddr("8.8.8.8")})
	if err := l.Check(pub, hold, parse(t, "http://localhost:9000/")); !errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("a name that changed to loopback: %v", err)
	}
	if err := l.Check(pub, hold, parse(t, "https://bucket.example.com/")); err != nil {
		t.Error(err)
	}
	// The link's name was public when it was looked at, and is connected to loopback.
	public := parse(t, "http://hold.example.com")
	link := parse(t, "http://bucket.example.com/")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, link.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	traced, refused := OnConnect(req.Context(), func(a netip.Addr) error {
		return l.Check(WithLinkAt(t.Context(), a), public, link)
	})
	if err := refused(); err != nil {
		t.Error(err)
	}
	if resp, err := dial(at).Do(req.WithContext(traced)); err == nil {
		resp.Body.Close()
	}
	if err := refused(); !errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("connected to loopback: %v", err)
	}
}
