package identity

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/internal/httpx"
)

const (
	aliceDID = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	bobDID   = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
)

// network is a PLC directory, a PDS for handles, DNS, and every https host there is.
type network struct {
	t       *testing.T
	plc     *httptest.Server
	web     *httptest.Server
	mu      sync.Mutex
	docs    map[string]string   // path or host -> document
	txt     map[string][]string // DNS
	handles map[string]string   // https://handle/.well-known/atproto-did
	pds     map[string]string   // resolveHandle
	status  int                 // of every answer, unless 0
	asked   map[string]int      // by what was asked
	now     time.Time
	block   chan struct{}
	arrived atomic.Int32
}

func newNetwork(t *testing.T) *network {
	n := &network{t: t, docs: map[string]string{}, txt: map[string][]string{}, handles: map[string]string{},
		pds: map[string]string{}, asked: map[string]int{}, now: time.Unix(1_800_000_000, 0)}
	n.plc = httptest.NewServer(http.HandlerFunc(n.serve))
	n.web = httptest.NewTLSServer(http.HandlerFunc(n.serve))
	t.Cleanup(n.plc.Close)
	t.Cleanup(n.web.Close)
	return n
}

func (n *network) set(f func()) { n.mu.Lock(); defer n.mu.Unlock(); f() }

func (n *network) count(what string) int { n.mu.Lock(); defer n.mu.Unlock(); return n.asked[what] }

func (n *network) serve(w http.ResponseWriter, r *http.Request) {
	n.arrived.Add(1)
	n.mu.Lock()
	block := n.block
	n.mu.Unlock()
	if block != nil {
		<-block
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var body string
	var ok bool
	switch {
	case r.URL.Path == "/.well-known/atproto-did":
		n.asked["https "+r.Host]++
		body, ok = n.handles[r.Host]
	case r.URL.Path == "/.well-known/did.json":
		n.asked["web "+r.Host]++
		body, ok = n.docs[r.Host]
	case strings.HasPrefix(r.URL.Path, "/xrpc/"):
		h := r.URL.Query().Get("handle")
		n.asked["pds "+h]++
		if body, ok = n.pds[h]; !ok && n.status == 0 {
			http.Error(w, `{"error":"InvalidRequest","message":"Unable to resolve handle"}`, http.StatusBadRequest)
			return
		}
		body = `{"did":"` + body + `"}`
	default:
		did := strings.TrimPrefix(r.URL.Path, "/")
		n.asked["plc "+did]++
		body, ok = n.docs[did]
	}
	switch {
	case n.status != 0:
		w.WriteHeader(n.status)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	default:
		_, _ = w.Write([]byte(body))
	}
}

// LookupTXT implements TXTResolver.
func (n *network) LookupTXT(_ context.Context, name string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked["dns "+name]++
	if n.status != 0 {
		return nil, &net.DNSError{Err: "server failure", Name: name, IsTemporary: true}
	}
	if txt, ok := n.txt[strings.TrimPrefix(name, "_atproto.")]; ok {
		return txt, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (n *network) resolver(change func(*ResolverOptions)) *Resolver {
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasSuffix(addr, ":443") {
				addr = n.web.Listener.Addr().String()
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	n.t.Cleanup(tr.CloseIdleConnections)
	opts := ResolverOptions{
		HTTP: &http.Client{Transport: tr, Timeout: 10 * time.Second}, PLCURL: n.plc.URL, DNS: n,
		Clock: func() time.Time { n.mu.Lock(); defer n.mu.Unlock(); return n.now },
	}
	if change != nil {
		change(&opts)
	}
	return NewResolver(opts)
}

func document(t *testing.T, did syntax.DID, handle string) string {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	id := &Identity{DID: did, Key: key, PublicURL: "https://pds.example.com", Handle: syntax.Handle(handle), Services: HoldServices()}
	b, err := documentJSON(id)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLookupHandle(t *testing.T) {
	n := newNetwork(t)
	n.docs[aliceDID.String()] = document(t, aliceDID, "alice.test")
	n.docs[bobDID.String()] = document(t, bobDID, "")
	for name, c := range map[string]struct {
		set    func()
		handle string
		want   syntax.DID
		err    error
	}{
		"dns":   {func() { n.txt["alice.test"] = []string{"v=spf1", "did=" + aliceDID.String()} }, "Alice.TEST", aliceDID, nil},
		"https": {func() { n.handles["alice.test"] = aliceDID.String() + "\n" }, "alice.test", aliceDID, nil},
		"pds first": {func() {
			n.pds["alice.test"] = aliceDID.String()
			n.txt["alice.test"] = []string{"did=" + bobDID.String()}
		}, "alice.test", aliceDID, nil},
		"none": {func() {}, "alice.test", "", ErrHandleNotFound},
		"two in dns": {func() { n.txt["alice.test"] = []string{"did=" + aliceDID.String(), "did=" + bobDID.String()} },
			"alice.test", "", ErrHandleResolutionFailed},
		"not a did": {func() { n.handles["alice.test"] = "<html>" }, "alice.test", "", ErrHandleResolutionFailed},
		"too long": {func() { n.handles["alice.test"] = strings.Repeat(" ", 3000) + aliceDID.String() }, "alice.test", "",
			ErrHandleResolutionFailed},
		"other handle":     {func() { n.txt["mallory.test"] = []string{"did=" + aliceDID.String()} }, "mallory.test", "", ErrHandleMismatch},
		"no handle":        {func() { n.txt["bob.test"] = []string{"did=" + bobDID.String()} }, "bob.test", "", ErrHandleNotDeclared},
		"reserved":         {func() {}, "alice.local", "", ErrHandleReservedTLD},
		"did that is none": {func() { n.txt["carol.test"] = []string{"did=did:plc:cccccccccccccccccccccccc"} }, "carol.test", "", ErrDIDNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			clear(n.txt)
			clear(n.handles)
			clear(n.pds)
			c.set()
			r := n.resolver(func(o *ResolverOptions) { o.HandleResolverURL = n.plc.URL + "/" })
			acc, err := r.LookupHandle(t.Context(), syntax.Handle(c.handle))
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil && (acc.DID != c.want || acc.Handle != syntax.Handle(strings.ToLower(c.handle))) {
				t.Errorf("got %s %s", acc.DID, acc.Handle)
			}
		})
	}
}

// TestInvalidHandles: what is no handle is asked of nobody, since it would be part of a URL. Callers of this package may have
// converted it from anything.
func TestInvalidHandles(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(nil)
	for _, h := range []syntax.Handle{"", "no handle", "evil.example:8443", "evil.example/path?", "evil.example#", "user@evil.example",
		"handle.invalid", "alice"} {
		if _, err := r.LookupHandle(t.Context(), h); !errors.Is(err, ErrInvalidHandle) {
			t.Errorf("%q: %v", h, err)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.asked) > 0 {
		t.Errorf("asked the network: %v", n.asked)
	}
}

func TestLookupDID(t *testing.T) {
	n := newNetwork(t)
	webDID := syntax.DID("did:web:hold.test")
	n.docs[aliceDID.String()] = document(t, aliceDID, "alice.test")
	n.docs[bobDID.String()] = document(t, aliceDID, "alice.test")
	n.docs["hold.test"] = document(t, webDID, "hold.test")
	thief := syntax.DID("did:web:thief.test")
	n.docs["thief.test"] = document(t, thief, "alice.test") // claims a handle that leads to alice
	n.docs["huge.test"] = document(t, "did:web:huge.test", "") + strings.Repeat(" ", MaxDocument)
	n.docs["broken.test"] = "{"
	n.txt["alice.test"] = []string{"did=" + aliceDID.String()}
	r := n.resolver(nil)
	for _, c := range []struct {
		did    string
		handle syntax.Handle
		err    error
	}{
		{aliceDID.String(), "alice.test", nil},
		{webDID.String(), syntax.HandleInvalid, nil}, // its handle leads nowhere
		{thief.String(), syntax.HandleInvalid, nil},
		{bobDID.String(), "", ErrDIDResolutionFailed},
		{"did:plc:cccccccccccccccccccccccc", "", ErrDIDNotFound},
		{"did:plc:../../../../etc/passwd", "", ErrDIDResolutionFailed},
		{"did:plc:AAAAAAAAAAAAAAAAAAAAAAAA", "", ErrDIDResolutionFailed},
		{"did:web:huge.test", "", ErrDIDResolutionFailed},
		{"did:web:broken.test", "", ErrDIDResolutionFailed},
		{"did:web:none.test", "", ErrDIDNotFound},
		{"did:web:hold.test:path", "", ErrDIDResolutionFailed},
		{"did:web:hold.test%3A8080", "", ErrDIDResolutionFailed},
		{"did:web:localhost%3A8080", "", ErrDIDResolutionFailed},
		{"did:web:127.0.0.1", "", ErrDIDResolutionFailed},
		{"did:web:hold.internal", "", ErrDIDResolutionFailed},
		{"did:web:user%40hold.test", "", ErrDIDResolutionFailed},
		{"did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme", "", ErrDIDResolutionFailed},
	} {
		acc, err := r.Lookup(t.Context(), syntax.AtIdentifier(c.did))
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.did, err, c.err)
		} else if err == nil && (acc.Handle != c.handle || acc.PDSEndpoint() != "https://pds.example.com") {
			t.Errorf("%s: %+v", c.did, acc)
		}
	}
	if acc, err := r.DIDs().LookupDID(t.Context(), aliceDID); err != nil || acc.Handle != syntax.HandleInvalid {
		t.Errorf("without handles: %+v %v", acc, err)
	}
}

func TestLoopbackSpellingsAreOneHost(t *testing.T) {
	n := newNetwork(t)
	_, port, _ := net.SplitHostPort(n.plc.Listener.Addr().String())
	shown := syntax.DID("did:web:localhost%3A" + port)
	for _, host := range []string{"localhost:" + port, "127.0.0.1:" + port} {
		n.docs[host] = document(t, shown, "")
	}
	r := n.resolver(func(o *ResolverOptions) { o.TestMode = true; o.HTTP = nil })
	t.Cleanup(r.opts.HTTP.CloseIdleConnections)
	for _, did := range []string{string(shown), "did:web:127.0.0.1%3A" + port, "did:web:127.0.0.1:" + port} {
		acc, err := r.LookupDID(t.Context(), syntax.DID(did))
		if err != nil || acc.DID != shown {
			t.Errorf("%s: %+v %v", did, acc, err)
		}
	}
	if got := n.count("web localhost:" + port); got != 1 {
		t.Errorf("one host was asked %d times", got)
	}
}

// The default client has the guard: nobody's DID leads to a private address.
func TestDefaultClientIsGuarded(t *testing.T) {
	n := newNetwork(t)
	r := n.resolver(func(o *ResolverOptions) { o.HTTP = nil })
	_, err := r.LookupDID(t.Context(), aliceDID)
	if !errors.Is(err, httpx.ErrForbiddenAddress) || !errors.Is(err, ErrDIDResolutionFailed) {
		t.Fatalf("got %v", err)
	}
	if n.arrived.Load() != 0 {
		t.Fatal("the request arrived")
	}
}

func TestCaching(t *testing.T) {
	n := newNetwork(t)
	n.docs[aliceDID.String()] = document(t, aliceDID, "alice.test")
	n.txt["alice.test"] = []string{"did=" + aliceDID.String()}
	r := n.resolver(nil)
	look := func(want error) {
		t.Helper()
		if _, err := r.LookupHandle(t.Context(), "alice.test"); !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	asked := func(want int) {
		t.Helper()
		if got := n.count("plc " + aliceDID.String()); got != want {
			t.Fatalf("the directory was asked %d times, want %d", got, want)
		}
	}
	pass := func(d time.Duration) { n.set(func() { n.now = n.now.Add(d) }) }
	look(nil)
	look(nil)
	asked(1)
	pass(5*time.Minute + time.Second)
	look(nil)
	asked(2)
	if err := r.Purge(t.Context(), aliceDID.AtIdentifier()); err != nil {
		t.Fatal(err)
	}
	look(nil)
	asked(3)
	if got := n.count("dns _atproto.alice.test"); got != 3 {
		t.Fatalf("the handle was asked for %d times: a purged DID takes its handle along", got)
	}

	// Down: the last answer serves, and the directory is left alone between tries.
	n.set(func() { n.status = http.StatusInternalServerError })
	pass(time.Hour)
	look(nil)
	look(nil)
	asked(4)
	pass(8 * 24 * time.Hour)
	look(ErrHandleResolutionFailed)

	// Gone: no stale answer for a definite no.
	n.set(func() { n.status = 0; delete(n.docs, aliceDID.String()) })
	pass(time.Minute)
	look(ErrDIDNotFound)
	asked(5)
	look(ErrDIDNotFound)
	asked(5)
	pass(61 * time.Second)
	n.set(func() { n.docs[aliceDID.String()] = document(t, aliceDID, "alice.test") })
	look(nil)
}

// Where no older answer serves, one that was down for a moment is asked again within a second, and not more often.
func TestAskedAgainSoon(t *testing.T) {
	n := newNetwork(t)
	n.docs[aliceDID.String()] = document(t, aliceDID, "")
	r := n.resolver(nil)
	n.set(func() { n.status = http.StatusInternalServerError })
	for range 3 {
		if _, err := r.LookupDID(t.Context(), aliceDID); !errors.Is(err, ErrDIDResolutionFailed) {
			t.Fatal(err)
		}
	}
	if got := n.count("plc " + aliceDID.String()); got != 1 {
		t.Errorf("asked %d times while it is down", got)
	}
	n.set(func() { n.status, n.now = 0, n.now.Add(time.Second) })
	if _, err := r.LookupDID(t.Context(), aliceDID); err != nil {
		t.Error(err)
	}
}

func TestLookupDIDFresh(t *testing.T) {
	n := newNetwork(t)
	n.docs[aliceDID.String()] = document(t, aliceDID, "")
	r := n.resolver(nil)
	key := func(f func(context.Context, syntax.DID) (*Account, error)) string {
		acc, err := f(t.Context(), aliceDID)
		if err != nil {
			t.Fatal(err)
		}
		return acc.Keys["atproto"].PublicKeyMultibase
	}
	old := key(r.LookupDID)
	n.set(func() { n.docs[aliceDID.String()] = document(t, aliceDID, ""); n.now = n.now.Add(10 * time.Second) })
	if key(r.LookupDID) != old {
		t.Fatal("not cached")
	}
	if key(r.LookupDIDFresh) == old {
		t.Fatal("not fetched afresh")
	}
	for range 10 {
		key(r.LookupDIDFresh)
	}
	if got := n.count("plc " + aliceDID.String()); got != 2 {
		t.Fatalf("asked %d times within a minute", got)
	}
	n.set(func() { n.now = n.now.Add(61 * time.Second); n.status = http.StatusBadGateway })
	key(r.LookupDIDFresh) // down: what is known serves
}

func TestSingleFlight(t *testing.T) {
	n := newNetwork(t)
	n.docs[aliceDID.String()] = document(t, aliceDID, "")
	n.block = make(chan struct{})
	r := n.resolver(nil)
	var wg sync.WaitGroup
	gone, leave := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := r.LookupDID(gone, aliceDID); first <- err }()
	for n.arrived.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 32 {
		wg.Go(func() {
			if _, err := r.LookupDID(t.Context(), aliceDID); err != nil {
				t.Error(err)
			}
		})
	}
	leave() // the one who asked first going away harms nobody
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(n.block)
	wg.Wait()
	if got := n.count("plc " + aliceDID.String()); got != 1 {
		t.Errorf("asked %d times", got)
	}
}

func TestMemoIsBounded(t *testing.T) {
	m := newMemo(memoRules{ttl: time.Hour, negative: time.Hour, stale: time.Hour, max: 10, clock: time.Now},
		func(_ context.Context, key string) (string, error) { return key, nil })
	for i := range 100 {
		key := fmt.Sprint(i)
		if v, err := m.get(t.Context(), key); err != nil || v != key {
			t.Fatal(v, err)
		}
	}
	if len(m.byKey) != 10 || m.order.Len() != 10 {
		t.Fatalf("%d entries", len(m.byKey))
	}
}

// An answer to a question from before a purge must not be kept after it.
func TestPurgeDuringLookup(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{}, 2)
	var calls atomic.Int32
	m := newMemo(memoRules{ttl: time.Hour, negative: time.Hour, stale: time.Hour, max: 10, clock: time.Now},
		func(_ context.Context, _ string) (string, error) {
			if calls.Add(1) == 1 {
				entered <- struct{}{}
				<-release
				return "old", nil
			}
			return "new", nil
		})
	done := make(chan struct{})
	go func() { defer close(done); _, _ = m.get(t.Context(), "k") }()
	<-entered
	m.expire("k")
	if v, err := m.get(t.Context(), "k"); v != "new" || err != nil {
		t.Fatal(v, err)
	}
	close(release)
	<-done
	if v, _ := m.get(t.Context(), "k"); v != "new" {
		t.Fatalf("kept %q", v)
	}
}

func TestKeyForms(t *testing.T) {
	key, _ := atcrypto.GeneratePrivateKeyK256()
	pub, _ := key.PublicKey()
	retired := `{"id":"` + string(aliceDID) + `","verificationMethod":[{"id":"#atproto","type":"EcdsaSecp256k1VerificationKey2019","controller":"` +
		string(aliceDID) + `","publicKeyMultibase":"z` + base58Of(pub.UncompressedBytes()) + `"}]}`
	p256, _ := atcrypto.GeneratePrivateKeyP256()
	pub2, _ := p256.PublicKey()
	retired2 := `{"id":"` + string(aliceDID) + `","verificationMethod":[{"id":"` + string(aliceDID) +
		`#atproto","type":"EcdsaSecp256r1VerificationKey2019","controller":"` +
		string(aliceDID) + `","publicKeyMultibase":"z` + base58Of(pub2.UncompressedBytes()) + `"}]}`
	for want, doc := range map[string]string{pub.DIDKey(): retired, pub2.DIDKey(): retired2} {
		acc, err := ParseDocument([]byte(doc), aliceDID)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := acc.PublicKey(); err != nil || got.DIDKey() != want {
			t.Errorf("%v %v, want %s", got, err, want)
		}
	}
}

func base58Of(b []byte) string {
	const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	var out []byte
	num := append([]byte{}, b...)
	for len(num) > 0 {
		rem, next := 0, []byte{}
		for _, d := range num {
			rem = rem<<8 | int(d)
			if q := rem / 58; len(next) > 0 || q > 0 {
				next = append(next, byte(q))
			}
			rem %= 58
		}
		out = append([]byte{alphabet[rem]}, out...)
		num = next
	}
	return string(out)
}

func FuzzParseDocument(f *testing.F) {
	f.Add([]byte(`{"id":"` + string(aliceDID) + `","alsoKnownAs":["at://alice.test"],"verificationMethod":[{"id":"#atproto","type":"Multikey","controller":"x","publicKeyMultibase":"z"}],"service":[{"id":"#atproto_pds","type":"x","serviceEndpoint":"http://[::1]"}]}`))
	f.Add([]byte(`{"id":null,"service":{}}`))
	for _, doc := range badDocuments {
		f.Add([]byte(doc))
	}
	for _, parts := range hollowDocuments {
		f.Add(hollow(parts))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		acc, err := ParseDocument(b, aliceDID)
		if err != nil {
			return
		}
		if acc.DID != aliceDID || acc.Handle != syntax.HandleInvalid {
			t.Fatalf("%+v", acc)
		}
		_, _ = acc.PublicKey()
		_ = acc.PDSEndpoint()
		_, _ = acc.DeclaredHandle()
		if _, err := json.Marshal(acc); err != nil {
			t.Fatal(err)
		}
	})
}
