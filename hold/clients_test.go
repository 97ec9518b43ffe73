package hold_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity/serviceauth"
)

// Anybody can put an issuer into a token that can't be looked up: that is no error of the hold's, and floods no log (A20).
func TestForgedTokensFloodNoLog(t *testing.T) {
	n := newNetwork(t)
	alice := n.user("alice")
	h := newHold(t, n, func(c *hold.Config) { c.Directory = talkative{n.dir} })
	for i := range 300 {
		token, err := serviceauth.Mint(alice.key, serviceauth.MintOptions{
			Issuer: "did:web:inner.example.com", Audience: h.DID(), Method: "io.atcr.hold.getQuota", Clock: n.clock,
		})
		must(t, err)
		if code, out := h.callWith("Bearer "+token, "GET", "io.atcr.hold.getQuota", "userDid="+alice.did, nil); code != 503 {
			t.Fatalf("%d: %d %v", i, code, out)
		}
	}
	log := h.log.String()
	if strings.Contains(log, "level=ERROR") {
		t.Errorf("it is an error of the hold's: %.300s", log)
	}
	if lines := strings.Count(log, "request refused"); lines == 0 || lines > 100 || !strings.Contains(log, "client=127.0.0.1") {
		t.Errorf("%d lines of 300 requests: %.300s", lines, log)
	}
}

// One client has 16 subscriptions and takes nobody else's places (A9). Behind a trusted proxy it is the proxy's client that counts.
func TestSubscribersOfClient(t *testing.T) {
	h := newHold(t, newNetwork(t), func(c *hold.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	dial := func(client string) int {
		t.Helper()
		c, resp, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(h.url, "http")+"/xrpc/com.atproto.sync.subscribeRepos",
			&websocket.DialOptions{HTTPHeader: http.Header{"X-Forwarded-For": {client}}})
		if err == nil {
			t.Cleanup(func() { c.CloseNow() })
			return http.StatusSwitchingProtocols
		}
		return resp.StatusCode
	}
	for i := range 16 {
		if code := dial("203.0.113.1"); code != http.StatusSwitchingProtocols {
			t.Fatalf("subscription %d: %d", i+1, code)
		}
	}
	if code := dial("203.0.113.1"); code != http.StatusTooManyRequests {
		t.Errorf("the 17th: %d", code)
	}
	if code := dial("198.51.100.1, 203.0.113.1"); code != http.StatusTooManyRequests {
		t.Errorf("the 17th, with an address of its own in front: %d", code)
	}
	if code := dial("203.0.113.2"); code != http.StatusSwitchingProtocols {
		t.Errorf("another client: %d", code)
	}
}

// Whatever a member's PDS says, it is the member's matter: never a 500, never an error in the log (A20).
func TestPDSAnswersAreNoErrors(t *testing.T) {
	n := newNetwork(t)
	alice := n.user("alice")
	h := newHold(t, n, func(c *hold.Config) { c.AllowAllCrew = true })
	layer := h.push(h.owner, []byte("layer"))
	d, _ := alice.putManifest(t, h, "app", layer, layer)
	real, cid := alice.pds, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
	var answer struct {
		method string
		status int
		body   string
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, answer.method) {
			w.WriteHeader(answer.status)
			_, _ = w.Write([]byte(answer.body))
			return
		}
		resp, err := http.Get(real + r.URL.RequestURI())
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	defer srv.Close()
	alice.pds = srv.URL
	n.add(alice)
	record := `{"uri":"at://x","cid":"` + cid + `","value":{"$type":"io.atcr.manifest","repository":"app","digest":"` + d.String() +
		`","holdDid":"` + h.DID() + `","manifestBlob":{"$type":"blob","ref":{"$link":"` + cid + `"}}}}`
	for _, answer.method = range []string{"getRecord", "getBlob", "listRecords"} {
		for _, a := range []struct {
			status int
			body   string
		}{
			{200, ""}, {200, "{}"}, {200, "[]"}, {200, `{"value":7}`}, {200, record}, {200, `{"records":[{"uri":7}]}`}, {204, ""}, {302, ""},
			{400, `{"error":"RepoTakendown"}`}, {401, ""}, {403, ""}, {404, ""}, {404, `{"error":"RecordNotFound"}`}, {413, ""}, {429, ""},
			{500, ""}, {507, `{"error":"InsufficientStorage"}`},
		} {
			answer.status, answer.body = a.status, a.body
			for _, operation := range []string{"push", "delete", "pull"} {
				if code, out := h.notify(alice, operation, "app", d); code == http.StatusInternalServerError ||
					code == http.StatusInsufficientStorage {
					t.Errorf("%s answers %d %s: %s is %d %v", answer.method, a.status, a.body, operation, code, out)
				}
			}
		}
	}
	must(t, h.Maintain(t.Context()))
	if log := h.log.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("the log says %.500s", log[strings.Index(log, "level=ERROR"):])
	}
}

// Parts that came before their turn have room of their own. That many members fill it is 507 for the next one, and no error of the hold's.
func TestSpoolFilledByMembers(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) { c.AllowAllCrew, c.MaxSpool = true, 4000 })
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		c := h.client(n.user(name))
		_, err := c.RequestCrew(t.Context())
		must(t, err)
		id, err := c.InitiateUpload(t.Context(), "")
		must(t, err)
		want := 200
		if i == 4 {
			want = http.StatusInsufficientStorage
		}
		if code, body := h.putPart(nil, id, "2", strings.NewReader(strings.Repeat("x", 1000))); code != want {
			t.Fatalf("%s: %d %s, want %d", name, code, body, want)
		}
	}
	if log := h.log.String(); strings.Contains(log, "level=ERROR") || !strings.Contains(log, "request refused") {
		t.Errorf("the log says %s", log)
	}
}

// A whole AppView is one address to a hold: what comes with a member's token counts as the member's, also behind a proxy.
func TestCallsCountByDID(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) {
		c.AllowAllCrew, c.TrustedProxies = true, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	entered, leave := make(chan struct{}), make(chan struct{})
	ask := func(as string, body io.Reader) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/xrpc/io.atcr.hold.requestCrew", body) // from 192.0.2.1
		r.Header.Set("X-Forwarded-For", "203.0.113.5")                                    // the AppView
		token, err := n.user(as).token(t.Context(), h.DID(), "io.atcr.hold.requestCrew")
		must(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, r)
		return w
	}
	n.user("alice")
	n.user("bob")
	var wg sync.WaitGroup
	for i := range 520 { // more than one address may have
		as := []string{"alice", "bob"}[i%2]
		wg.Go(func() { ask(as, waitingBody{entered, leave}) })
		<-entered
	}
	for range 512 - 260 {
		wg.Go(func() { ask("alice", waitingBody{entered, leave}) })
		<-entered
	}
	if w := ask("alice", strings.NewReader("{}")); w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), "RateLimitExceeded") {
		t.Errorf("one more of alice: %d %s", w.Code, w.Body)
	}
	if w := ask("bob", strings.NewReader("{}")); w.Code != http.StatusOK {
		t.Errorf("bob, by the same AppView: %d %s", w.Code, w.Body)
	}
	close(leave)
	wg.Wait()
}

// waitingBody is a body that is still on its way.
type waitingBody struct{ entered, leave chan struct{} }

func (b waitingBody) Read([]byte) (int, error) {
	b.entered <- struct{}{}
	<-b.leave
	return 0, io.EOF
}
