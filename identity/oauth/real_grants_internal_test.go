package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// realGrants are grants at the reference PDS, behind a proxy that counts and fails.
type realGrants struct {
	t       *testing.T
	network *realtest.Net
	proxy   *realtest.FaultProxy
	clock   *testClock
	*Client
}

func newRealGrants(t *testing.T, network *realtest.Net) *realGrants {
	r := &realGrants{t: t, network: network, proxy: network.Proxy[0], clock: newTestClock()}
	r.Client = realClient(t, network, func(c *Config) { c.Clock = r.clock.Now })
	return r
}

func (r *realGrants) signIn() string {
	r.t.Helper()
	alice := r.network.Account("alice")
	started, err := r.Begin(r.t.Context(), Begin{Account: alice.DID})
	if err != nil {
		r.t.Fatal(err)
	}
	finished, err := r.Finish(r.t.Context(), newPerson(r.t, alice).allows(started.URL), started.Browser)
	if err != nil {
		r.t.Fatal(err)
	}
	return finished.Grant.ID
}

// call does an XRPC call; in is JSON, or bytes for uploadBlob.
func (r *realGrants) call(ctx context.Context, id, method string, in any) (int, map[string]any, error) {
	verb, body, kind := http.MethodPost, []byte(nil), "application/json"
	switch v := in.(type) {
	case nil:
		verb = http.MethodGet
	case []byte:
		body, kind = v, "application/vnd.oci.image.manifest.v1+json"
	default:
		var err error
		if body, err = json.Marshal(in); err != nil {
			return 0, nil, err
		}
	}
	req, err := http.NewRequest(verb, "/xrpc/"+method, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := r.Do(ctx, id, req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	out := map[string]any{}
	return resp.StatusCode, out, json.Unmarshal(b, &out)
}

// push writes a record, as a push does.
func (r *realGrants) push(id string) error {
	status, out, err := r.call(context.Background(), id, "com.atproto.repo.createRecord", map[string]any{
		"repo": r.network.Account("alice").DID, "collection": "io.atcr.tag",
		"record": map[string]any{"$type": "io.atcr.tag", "repository": "app", "tag": word()},
	})
	if err == nil && status != 200 {
		b, _ := json.Marshal(out)
		err = errors.New(http.StatusText(status) + " " + string(b))
	}
	return err
}

func (r *realGrants) must(id string) {
	r.t.Helper()
	if err := r.push(id); err != nil {
		r.t.Fatal(err)
	}
}

// asked counts requests for tokens since it was called last.
func (r *realGrants) asked() (n int) {
	for _, s := range r.proxy.Requests() {
		if strings.HasPrefix(s, "POST /oauth/token") {
			n++
		}
	}
	return n
}

func TestRealGrants(t *testing.T) {
	t.Parallel()
	network := realtest.Network(t, realtest.NetworkOptions{Proxied: true})
	for name, test := range map[string]func(*realGrants){
		"Do": testRealDo, "Refresh": testRealRefresh, "Replay": testRealReplay, "Lost": testRealLost, "Faults": testRealFaults,
		"End": testRealEnd, "Deactivated": testRealDeactivated, "Grown": testRealGrown,
	} {
		t.Run(name, func(t *testing.T) { test(newRealGrants(t, network)) })
	}
}

func testRealDo(r *realGrants) {
	id, ctx := r.signIn(), r.t.Context()
	r.must(id)
	if status, out, err := r.call(ctx, id, "com.atproto.repo.uploadBlob", []byte(`{"schemaVersion":2}`)); err != nil || status != 200 {
		r.t.Errorf("uploadBlob: %d %v %v", status, out, err)
	}
	status, out, err := r.call(ctx, id, "com.atproto.server.getServiceAuth?aud=did:web:hold.test&lxm=io.atcr.hold.initiateUpload", nil)
	if err != nil || status != 200 || out["token"] == nil {
		r.t.Errorf("getServiceAuth: %d %v %v", status, out, err)
	}
	_, _, err = r.call(ctx, id, "com.atproto.repo.createRecord", map[string]any{
		"repo": r.network.Account("alice").DID, "collection": "app.bsky.feed.post", "record": map[string]any{"text": "no"},
	})
	kindIs(r.t, err, ErrDenied, "app.bsky.feed.post")
	_, _, err = r.call(ctx, id, "com.atproto.server.getServiceAuth?aud=did:web:hold.test&lxm=io.atcr.hold.deleteAll", nil)
	kindIs(r.t, err, ErrDenied, "io.atcr.hold.deleteAll")
}

// testRealRefresh: 16 at once, when the token is about to end, over and over.
func testRealRefresh(r *realGrants) {
	id := r.signIn()
	r.must(id)
	for range 3 {
		r.clock.add(58 * time.Minute)
		r.asked()
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if err := r.push(id); err != nil {
					r.t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := r.asked(); n != 1 {
			r.t.Errorf("%d requests for tokens, want 1", n)
		}
	}
}

// testRealReplay shows what a server does about a spent token, from which all care here comes.
func testRealReplay(r *realGrants) {
	id, ctx := r.signIn(), r.t.Context()
	before, err := r.store.grant(ctx, id)
	if err != nil {
		r.t.Fatal(err)
	}
	r.clock.add(time.Hour)
	r.must(id)
	now, err := r.store.grant(ctx, id)
	if err != nil {
		r.t.Fatal(err)
	}
	// As from a backup of the database.
	copied := *now
	copied.id, copied.secrets.Refresh = newGrantID(), before.secrets.Refresh
	if err := r.store.insertGrant(ctx, &copied); err != nil {
		r.t.Fatal(err)
	}
	r.clock.add(time.Hour)
	kindIs(r.t, r.push(copied.id), ErrEnded, "was revoked or has run out")
	kindIs(r.t, r.push(id), ErrEnded, "was revoked or has run out")
}

// testRealLost: the answer to a refresh is cut off.
func testRealLost(r *realGrants) {
	id := r.signIn()
	r.must(id)
	r.proxy.Inject(realtest.Fault{Kind: realtest.DropDone, Path: "/oauth/token"})
	r.clock.add(58 * time.Minute)
	kindIs(r.t, r.push(id), ErrUnavailable, "") // this server has ended the old access token, too
	r.clock.add(time.Minute)
	kindIs(r.t, r.push(id), ErrEnded, "was lost")
	// One that never arrived costs nothing.
	id = r.signIn()
	r.must(id)
	r.proxy.Inject(realtest.Fault{Kind: realtest.Drop, Path: "/oauth/token"})
	r.clock.add(58 * time.Minute)
	r.must(id)
	if g, err := r.Grant(r.t.Context(), id); err != nil || !g.Lost {
		r.t.Errorf("%+v, %v", g, err)
	}
	r.clock.add(time.Hour)
	r.must(id)
	if g, err := r.Grant(r.t.Context(), id); err != nil || g.Lost {
		r.t.Errorf("%+v, %v", g, err)
	}
}

func testRealFaults(r *realGrants) {
	id := r.signIn()
	r.must(id)
	for _, f := range []realtest.Fault{
		{Kind: realtest.Fail, Status: 500}, {Kind: realtest.Fail, Status: 502}, {Kind: realtest.Fail, RetryAfter: 5 * time.Second},
	} {
		f.Path = "/oauth/token"
		r.proxy.Inject(f)
		r.clock.add(58 * time.Minute)
		r.must(id) // by the old one
		r.clock.add(time.Hour)
		r.must(id)
	}
	// The account's server says that the token has ended, before its time; the token then is a new one.
	for range 3 {
		r.proxy.Inject(realtest.Fault{Kind: realtest.Fail, Status: 401, Path: "/xrpc/com.atproto.repo.createRecord"})
		r.clock.add(time.Minute)
		r.asked()
		r.must(id)
		if n := r.asked(); n != 1 {
			r.t.Errorf("%d requests for tokens, want 1", n)
		}
	}
}

func testRealEnd(r *realGrants) {
	id, ctx := r.signIn(), r.t.Context()
	r.must(id)
	g, err := r.store.grant(ctx, id)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.End(ctx, id); err != nil {
		r.t.Fatal(err)
	}
	kindIs(r.t, r.push(id), ErrEnded, "not known here")
	if err := r.store.insertGrant(ctx, g); err != nil { // what somebody kept of it is of no use
		r.t.Fatal(err)
	}
	kindIs(r.t, r.push(id), ErrEnded, "was revoked or has run out")
}

// testRealDeactivated: the person deactivates the account, and comes back.
func testRealDeactivated(r *realGrants) {
	id := r.signIn()
	r.must(id)
	session := r.network.Session(r.t, "alice")
	account := func(what string, in any) {
		r.t.Helper()
		err := r.network.Call(r.t.Context(), http.MethodPost, r.network.PDS[0], "com.atproto.server."+what, session, in, nil)
		if err != nil {
			r.t.Fatal(err)
		}
	}
	account("deactivateAccount", map[string]any{})
	r.asked()
	for range 2 {
		kindIs(r.t, r.push(id), ErrDenied, "Account is deactivated")
		r.clock.add(10 * time.Minute)
	}
	if n := r.asked(); n != 0 {
		r.t.Errorf("%d requests for tokens, want none", n)
	}
	r.clock.add(2 * time.Hour)
	kindIs(r.t, r.push(id), ErrDenied, "Account is deactivated")
	account("activateAccount", nil)
	r.must(id)
}

// testRealGrown: a newer version asks for more, and listens elsewhere; sign-ins of before go on with what they have.
func testRealGrown(r *realGrants) {
	id := r.signIn()
	r.must(id)
	c := r.config
	c.Scopes, c.URL = append(slices.Clone(c.Scopes), "repo:io.atcr.sailor.star"), "http://127.0.0.1:5001"
	newer, err := New(r.t.Context(), c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Client = newer
	for range 2 {
		r.clock.add(2 * time.Hour)
		r.must(id)
	}
	g, err := r.Grant(r.t.Context(), id)
	if err != nil || !slices.Equal(g.Missing, []string{"repo:io.atcr.sailor.star"}) {
		r.t.Errorf("%+v, %v", g, err)
	}
	_, _, err = r.call(r.t.Context(), id, "com.atproto.repo.createRecord", map[string]any{
		"repo": r.network.Account("alice").DID, "collection": "io.atcr.sailor.star", "record": map[string]any{"subject": "at://x"},
	})
	kindIs(r.t, err, ErrDenied, "sign in again at http://127.0.0.1:5001")
}
