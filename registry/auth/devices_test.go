package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/identity/oauth"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
)

// fakeOAuth keeps grants in memory, and fails where a real one can't be made to.
type fakeOAuth struct {
	mu     sync.Mutex
	grants map[string]*oauth.Grant
	ends   []string
	err    error // of every call
}

func (o *fakeOAuth) add(id, did string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.grants == nil {
		o.grants = map[string]*oauth.Grant{}
	}
	id = "oauth-" + id
	o.grants[id] = &oauth.Grant{ID: id, DID: did}
	return id
}

func (o *fakeOAuth) set(f func()) { o.mu.Lock(); defer o.mu.Unlock(); f() }

func (o *fakeOAuth) Grant(_ context.Context, id string) (*oauth.Grant, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.grants[id]; g != nil || o.err != nil {
		return g, o.err
	}
	return nil, &oauth.Error{Kind: oauth.ErrEnded, Message: "your sign-in has ended: it is not known here"}
}

func (o *fakeOAuth) Do(ctx context.Context, id string, req *http.Request) (*http.Response, error) {
	if g, err := o.Grant(ctx, id); err != nil {
		return nil, err
	} else if g.Ended != "" {
		return nil, &oauth.Error{Kind: oauth.ErrEnded, Message: "your sign-in has ended: " + g.Ended}
	}
	done := req.Clone(ctx)
	done.URL.Scheme, done.URL.Host = "https", "pds.example"
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"token":"by ` + id + `"}`)), Request: done}, nil
}

func (o *fakeOAuth) End(_ context.Context, id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.ends = append(o.ends, id)
	delete(o.grants, id)
	return nil
}

var _ OAuth = (*fakeOAuth)(nil)

func newFlow(t testing.TB) (*fixture, *fakeOAuth) {
	o := &fakeOAuth{}
	return newFixture(t, func(opts *Options) {
		opts.OAuth = o
		opts.Log = slog.New(slog.DiscardHandler)
		opts.ClientAddr = func(r *http.Request) netip.Addr {
			if a, err := netip.ParseAddr(r.Header.Get("X-Test")); err == nil {
				return a
			}
			return netip.MustParseAddr("192.0.2.1")
		}
	}), o
}

// begin is a device that asks for codes.
func (f *fixture) begin(name string) (out codeAnswer) {
	f.t.Helper()
	w := f.postTo("/auth/device/code", url.Values{"client_id": {"docker-credential-atcr"}, "device_name": {name}})
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 || w.Header().Get("Cache-Control") != "no-store" {
		f.t.Fatalf("%d %s", w.Code, w.Body)
	}
	return out
}

func (f *fixture) poll(code string) *httptest.ResponseRecorder {
	return f.postTo("/auth/device/token", url.Values{"client_id": {"x"}, "device_code": {code}, "grant_type": {deviceGrant}})
}

// flowError is the error of a poll, "" for none; the device that it gave otherwise.
func (f *fixture) polled(w *httptest.ResponseRecorder) (problem string, device deviceAnswer) {
	f.t.Helper()
	var out struct {
		deviceAnswer
		Error       string
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || (w.Code == 200) != (out.Error == "") || w.Header().Get("Cache-Control") != "no-store" ||
		(out.Error == "") != (out.Description == "") {
		f.t.Fatalf("%d %s", w.Code, w.Body)
	}
	if out.Error != "" && (w.Code != 400 || out.AccessToken != "") {
		f.t.Errorf("%d %s", w.Code, w.Body)
	}
	return out.Error, out.deviceAnswer
}

// device goes through the flow.
func (f *fixture) device(name, grant string) deviceAnswer {
	f.t.Helper()
	c := f.begin(name)
	if err := f.Devices().Approve(f.t.Context(), c.UserCode, alice, "alice.test", grant); err != nil {
		f.t.Fatal(err)
	}
	problem, d := f.polled(f.poll(c.DeviceCode))
	if problem != "" {
		f.t.Fatal(problem)
	}
	return d
}

// The flow of RFC 8628, as another program would go through it.
func TestDeviceFlow(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	grant := o.add("own", alice)
	c := f.begin("alice's laptop")
	const code = "[" + codeLetters + "]{4}-[" + codeLetters + "]{4}"
	if !regexp.MustCompile("^"+code+"$").MatchString(c.UserCode) || c.VerificationURI != "https://registry.example.com/device" ||
		c.VerificationURIComplete != c.VerificationURI+"?user_code="+c.UserCode || c.ExpiresIn != 600 || c.Interval != 5 {
		t.Fatalf("%+v", c)
	}
	if p, _ := f.polled(f.poll(c.DeviceCode)); p != "authorization_pending" {
		t.Error(p)
	}
	pending, err := f.Devices().Pending(t.Context(), " "+strings.ToLower(strings.ReplaceAll(c.UserCode, "-", " ")))
	if err != nil || pending.Name != "alice's laptop" || pending.Address != "192.0.2.1" || pending.UserCode != c.UserCode ||
		!pending.Created.Equal(f.clock()) || !pending.Ends.Equal(f.clock().Add(10*time.Minute)) {
		t.Fatalf("%+v %v", pending, err)
	}
	if err := f.Devices().Approve(t.Context(), c.UserCode, alice, "alice.test", grant); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"approved again": f.Devices().Approve(t.Context(), c.UserCode, bob, "bob.test", o.add("bobs", bob)), "denied after": f.Devices().Deny(t.Context(), c.UserCode),
	} {
		if !errors.Is(err, ErrUserCode) {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.pass(5 * time.Second)
	problem, d := f.polled(f.poll(c.DeviceCode))
	if kind, id := parseSecret(d.AccessToken); problem != "" || kind != kindDevice || id == "" || d.TokenType != "device_secret" || d.DID != alice ||
		d.Handle != "alice.test" {
		t.Fatalf("%s %+v", problem, d)
	}
	f.pass(5 * time.Second)
	if p, _ := f.polled(f.poll(c.DeviceCode)); p != "expired_token" {
		t.Errorf("a used code: %s", p)
	}
	// It signs in beside any user name, asks no PDS, and names grant and device.
	for _, user := range []string{"alice.test", "bob.test", "<token>", "", "no such thing", "did"} {
		r := httptest.NewRequest(http.MethodGet, "/auth/token?offline_token=true&scope=repository:alice.test/app:pull,push", nil)
		r.SetBasicAuth(user, d.AccessToken)
		out := f.answer(f.serve(r))
		cl, err := f.verify(out.Token, 0)
		_, id := parseSecret(d.AccessToken)
		if err != nil || cl.DID != alice || cl.Session != grant || cl.Token != id || cl.Method != kindDevice || out.RefreshToken != "" ||
			f.granted(out.Token) != "alice.test/app:pull,push" {
			t.Errorf("%q: %+v %v", user, cl, err)
		}
		if actor, e := ask(f, out.Token, want("alice.test/app", registry.Push)); e != nil || actor.Session != grant || actor.ID != alice {
			t.Errorf("%q: %+v %v", user, actor, e)
		}
	}
	if f.granted(f.answer(f.post(refreshForm(d.AccessToken, "repository:alice.test/app:push"))).Token) != "alice.test/app:push" {
		t.Error("not taken as a refresh token")
	}
	if n := len(f.pds.calls); n != 0 {
		t.Errorf("the PDS was asked %d times", n)
	}
	f.noSecrets(c.DeviceCode, d.AccessToken)
	if all := f.dump(); strings.Contains(all, strings.ReplaceAll(c.UserCode, "-", "")) || strings.Contains(all, c.UserCode) {
		t.Error("the user code is in the database")
	}
	list, err := f.Devices().List(t.Context(), alice)
	if err != nil || len(list) != 1 || list[0].Name != "alice's laptop" || list[0].Session != grant || list[0].Address != "192.0.2.1" {
		t.Errorf("%+v %v", list, err)
	}
	// A repository acts by the grant.
	if token, err := f.Sessions().ServiceToken(t.Context(), grant, "did:web:hold.example", "x.y.z"); err != nil || token != "by "+grant {
		t.Error(token, err)
	}
}

func TestDeviceRefused(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	c := f.begin("x")
	if err := f.Devices().Deny(t.Context(), c.UserCode); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if p, _ := f.polled(f.poll(c.DeviceCode)); p != "access_denied" {
			t.Error(p)
		}
		f.pass(5 * time.Second)
	}
	// Codes are over after ten minutes, for the page as for the device.
	late, approved := f.begin("late"), f.begin("approved late")
	grant := o.add("unfetched", alice)
	if err := f.Devices().Approve(t.Context(), approved.UserCode, alice, "", grant); err != nil {
		t.Fatal(err)
	}
	f.pass(codeLife)
	if _, err := f.Devices().Pending(t.Context(), late.UserCode); !errors.Is(err, ErrUserCode) {
		t.Error(err)
	}
	if err := f.Devices().Approve(t.Context(), late.UserCode, alice, "", grant); !errors.Is(err, ErrUserCode) {
		t.Error(err)
	}
	forged, _ := newSecret(kindCode, newID())
	_, id := parseSecret(late.DeviceCode)
	wrong, _ := newSecret(kindCode, id)
	for _, code := range []string{late.DeviceCode, approved.DeviceCode, forged, wrong, "x", strings.Repeat("y", 5000)} {
		if p, _ := f.polled(f.poll(code)); p != "expired_token" {
			t.Errorf("%.20s: %s", code, p)
		}
	}
	// The grant of one that never came for its secret is ended, once nobody can.
	if err := f.keep(t.Context()); err != nil || len(o.ends) != 0 {
		t.Error(err, o.ends)
	}
	f.pass(time.Hour)
	if err := f.keep(t.Context()); err != nil || len(o.ends) != 1 || o.ends[0] != grant {
		t.Error(err, o.ends)
	}
	if all := f.dump(); all != "" {
		t.Errorf("left: %s", all)
	}
	// Forms that are none.
	for what, w := range map[string]*httptest.ResponseRecorder{
		"no client_id":   f.postTo("/auth/device/code", url.Values{}),
		"no device_code": f.postTo("/auth/device/token", url.Values{"grant_type": {deviceGrant}}),
		"too long":       f.postTo("/auth/device/code", url.Values{"client_id": {strings.Repeat("x", maxForm)}}),
		"in the URL":     f.postTo("/auth/device/token?device_code=x", url.Values{}),
	} {
		if p, _ := f.polled(w); p != "invalid_request" {
			t.Errorf("%s: %s", what, p)
		}
	}
	if p, _ := f.polled(f.postTo("/auth/device/token", url.Values{"device_code": {"x"}, "grant_type": {"password"}})); p != "unsupported_grant_type" {
		t.Error(p)
	}
	if w := f.serve(httptest.NewRequest(http.MethodGet, "/auth/device/code?client_id=x", nil)); w.Code != 405 {
		t.Error(w.Code)
	}
}

// Who polls too often is told, waits longer, and gets its secret all the same.
func TestSlowDown(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	c := f.begin("x")
	grant := o.add("g", alice)
	for i, step := range []struct {
		after time.Duration
		want  string
	}{
		{0, "authorization_pending"}, {5 * time.Second, "authorization_pending"}, {4500 * time.Millisecond, "authorization_pending"},
		{time.Second, "slow_down"}, {5 * time.Second, "slow_down"}, {15 * time.Second, "authorization_pending"}, {0, "slow_down"},
	} {
		f.pass(step.after)
		if p, _ := f.polled(f.poll(c.DeviceCode)); p != step.want {
			t.Errorf("%d: %s, want %s", i, p, step.want)
		}
	}
	if err := f.Devices().Approve(t.Context(), c.UserCode, alice, "", grant); err != nil {
		t.Fatal(err)
	}
	f.pass(20 * time.Second)
	if p, d := f.polled(f.poll(c.DeviceCode)); p != "" || d.AccessToken == "" {
		t.Error(p)
	}
}

// Two polls at once get one device between them.
func TestDeviceOnce(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	c := f.begin("x")
	if err := f.Devices().Approve(t.Context(), c.UserCode, alice, "", o.add("g", alice)); err != nil {
		t.Fatal(err)
	}
	row, err := f.devices.byDeviceCode(t.Context(), c.DeviceCode)
	if err != nil || row == nil {
		t.Fatal(row, err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := 0
	for range 8 {
		wg.Go(func() {
			d, _, err := f.devices.redeem(t.Context(), row, "192.0.2.1")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if d != nil {
				got++
			}
		})
	}
	wg.Wait()
	if list, err := f.Devices().List(t.Context(), alice); err != nil || len(list) != 1 || got != 1 {
		t.Error(got, len(list), err)
	}
}

// from gives a context as a request of a client has it.
func from(t *testing.T, addr string) (ctx context.Context) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = addr + ":1234"
	httpx.WithClient(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ctx = context.WithoutCancel(r.Context()) }),
		httpx.VisitOptions{}).ServeHTTP(httptest.NewRecorder(), r)
	return ctx
}

// Five wrong codes of an address within a minute, however they are tried; a sixth, even the right one, has to wait. Others don't.
func TestWrongCodes(t *testing.T) {
	t.Parallel()
	f, _ := newFlow(t)
	c := f.begin("x")
	bad, good := from(t, "198.51.100.7"), from(t, "198.51.100.8")
	wrong := 0
	tries := []func(code string) error{
		func(code string) error { _, err := f.Devices().Pending(bad, code); return err },
		func(code string) error { return f.Devices().Deny(bad, code) },
		func(code string) error { return f.Devices().Approve(bad, code, alice, "", "s") },
	}
	for range 10 { // right ones cost nothing
		if err := tries[0](c.UserCode); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		f.pass(2 * time.Second)
		switch err := tries[i%len(tries)](newUserCode()); {
		case errors.Is(err, ErrUserCode):
			wrong++
		case !errors.Is(err, registry.ErrTooManyRequests):
			t.Fatal(err)
		}
	}
	if wrong != wrongCodes {
		t.Errorf("%d wrong codes", wrong)
	}
	var e *registry.Error
	if err := tries[0](c.UserCode); !errors.As(err, &e) || e.Status != 429 || e.RetryAfter <= 0 || e.RetryAfter > time.Minute {
		t.Error(err)
	}
	if _, err := f.Devices().Pending(good, c.UserCode); err != nil {
		t.Error(err)
	}
	f.pass(time.Minute)
	if err := tries[0](c.UserCode); err != nil {
		t.Error(err)
	}
	// Many at once count, too.
	f.pass(time.Minute)
	var wg sync.WaitGroup
	var mu sync.Mutex
	wrong = 0
	for range 30 {
		wg.Go(func() {
			_, err := f.Devices().Pending(bad, newUserCode())
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, ErrUserCode) {
				wrong++
			}
		})
	}
	wg.Wait()
	if wrong != wrongCodes {
		t.Errorf("%d wrong codes at once", wrong)
	}
	for _, code := range []string{"", "-", "AEIO-UAEI", strings.Repeat("B", 100), c.UserCode[:8], c.UserCode + "B"} {
		f.pass(time.Minute)
		if _, err := f.Devices().Pending(bad, code); !errors.Is(err, ErrUserCode) {
			t.Errorf("%q: %v", code, err)
		}
	}
}

// Devices that wait are bounded for each client; an account has at most 50.
func TestDevicesAreBounded(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	busy := 0
	for range codeBurst + 5 {
		w := f.postTo("/auth/device/code", url.Values{"client_id": {"x"}})
		if w.Code == 429 && w.Header().Get("Retry-After") != "" && strings.Contains(w.Body.String(), `"slow_down"`) {
			busy++
		}
	}
	if busy != 5 {
		t.Errorf("%d were refused", busy)
	}
	for i := range maxDevices {
		f.pass(codeEvery)
		f.device(fmt.Sprint("device ", i), o.add(fmt.Sprint(i), alice))
	}
	f.pass(codeEvery)
	c := f.begin("one more")
	err := f.Devices().Approve(t.Context(), c.UserCode, alice, "alice.test", o.add("more", alice))
	if !errors.Is(err, registry.ErrDenied) || !strings.Contains(err.Error(), "alice.test has 50 devices") {
		t.Fatal(err)
	}
	list, err := f.Devices().List(t.Context(), alice)
	if err != nil || len(list) != maxDevices {
		t.Fatal(len(list), err)
	}
	if err := f.Devices().End(t.Context(), alice, list[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := f.Devices().Approve(t.Context(), c.UserCode, alice, "alice.test", o.add("more", alice)); err != nil {
		t.Error(err)
	}
	// One that was approved and not fetched counts.
	f.pass(codeEvery)
	if err := f.Devices().Approve(t.Context(), f.begin("x").UserCode, alice, "alice.test", o.add("x", alice)); !errors.Is(err, registry.ErrDenied) {
		t.Error(err)
	}
}

// An ended device: its grant is revoked, its secret and its registry tokens are refused with words that say what to do.
func TestEndDevice(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	lost, kept := f.device("lost", o.add("lost", alice)), f.device("kept", o.add("kept", alice))
	const scope = "repository:alice.test/app:pull,push"
	tokenOf := func(d deviceAnswer) string { return f.token("x", d.AccessToken, scope) }
	token, other := tokenOf(lost), tokenOf(kept)
	upload := registry.Access{Repository: "alice.test/app", Actions: []registry.Action{registry.Push}, Upload: "u"}
	if _, e := ask(f, token, upload); e != nil {
		t.Fatal(e)
	}
	_, id := parseSecret(lost.AccessToken)
	// Its server does not answer: the device has ended all the same, and the grant goes later.
	o.set(func() { o.err = errors.New("the database is away") })
	if err := f.Devices().End(t.Context(), alice, id); err != nil {
		t.Fatal(err)
	}
	o.set(func() { o.err = nil })
	text := f.refused(f.get("x", lost.AccessToken))
	if !strings.Contains(text, `the device "lost" of alice.test was ended on 2027-01-15 08:00 UTC`) ||
		!strings.Contains(text, "docker-credential-atcr login registry.example.com") {
		t.Error(text)
	}
	for range 2 {
		if _, e := ask(f, token, upload); e == nil || e.Status != 401 || !strings.Contains(e.Message, "was ended on") {
			t.Error(e)
		}
		f.pass(livesFor)
	}
	if err := f.keep(t.Context()); err != nil || len(o.ends) != 1 || o.ends[0] != "oauth-lost" {
		t.Error(err, o.ends)
	}
	if _, e := ask(f, other, upload); e != nil {
		t.Error(e)
	}
	if text := f.refused(f.get("x", lost.AccessToken)); !strings.Contains(text, "was ended on") {
		t.Error(text)
	}
	// A grant that its server, or the person there, ended.
	o.set(func() { o.grants["oauth-kept"].Ended = "it was revoked at the account's server" })
	if _, e := ask(f, other, upload); e != nil {
		t.Error("nobody has noticed yet", e)
	}
	if _, err := f.Sessions().ServiceToken(t.Context(), "oauth-kept", "did:web:x", "y"); !errors.Is(err, registry.ErrUnauthorized) {
		t.Error(err)
	}
	if _, e := ask(f, other, upload); e == nil || e.Status != 401 || !strings.Contains(e.Message, "it was revoked at the account's server") {
		t.Error(e)
	}
	if text := f.refused(f.get("x", kept.AccessToken)); !strings.Contains(text, `the device "kept" of alice.test can no longer act at the account's server (it was revoked at the `) ||
		!strings.Contains(text, "docker-credential-atcr login registry.example.com") {
		t.Error(text)
	}
	// A database that is away is no refusal.
	o.set(func() { o.err = errors.New("away") })
	f.pass(livesFor)
	if w := f.get("x", kept.AccessToken); w.Code != 500 {
		t.Error(w.Code)
	}
}

// Errors of OAuth keep their kind for docker.
func TestErrorsOfOAuth(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	grant := o.add("g", alice)
	for _, c := range []struct{ kind, want error }{
		{oauth.ErrEnded, registry.ErrUnauthorized}, {oauth.ErrUnavailable, registry.ErrUnavailable}, {oauth.ErrTooManyRequests, registry.ErrTooManyRequests},
		{oauth.ErrDenied, registry.ErrDenied}, {oauth.ErrUnsupported, registry.ErrDenied}, {oauth.ErrState, registry.ErrUnauthorized},
	} {
		o.set(func() { o.err = &oauth.Error{Kind: c.kind, Message: "a sentence", RetryAfter: 7 * time.Second} })
		_, err := f.Sessions().ServiceToken(t.Context(), grant, "did:web:x", "y")
		var e *registry.Error
		if !errors.As(err, &e) || !errors.Is(e, c.want) || e.Message != "a sentence" || e.RetryAfter != 7*time.Second || !errors.Is(err, c.kind) {
			t.Errorf("%v: %v", c.kind, err)
		}
	}
	f.opts.OAuth = nil
	f.restart()
	if _, err := f.Sessions().ServiceToken(t.Context(), grant, "did:web:x", "y"); !errors.Is(err, registry.ErrUnauthorized) {
		t.Error(err)
	}
}

// What a device calls itself is shown on a page and in answers.
func TestDeviceNames(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"laptop": "laptop", "": "client", " \t\r\n": "client", "a\nb\x00c\u202ed": "a b c d", "\xff\xfe": "client",
		strings.Repeat("é", 100): strings.Repeat("é", 32), "<b>x</b>": "<b>x</b>", "日本": "日本", "a  b": "a b",
	} {
		if got := deviceName(given, "client"); got != want {
			t.Errorf("%q is %q, want %q", given, got, want)
		}
	}
	if got := deviceName("", ""); got != "unnamed" {
		t.Error(got)
	}
}

// A page signs in by app password, never by a secret of ours, and says nothing of docker.
func TestPageSignIn(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	d := f.device("x", o.add("g", alice))
	client := netip.MustParseAddr("192.0.2.9")
	did, session, err := f.SignIn(t.Context(), "@Alice.test", app, client)
	if err != nil || did != alice || session == "" {
		t.Fatal(did, session, err)
	}
	for _, c := range []struct{ user, password, want string }{
		{"alice.test", "wrong", "use your handle and an app password of your account"}, {"alice", app, "sign in with all of it"},
		{"alice.test", d.AccessToken, "use an app password"}, {"did", "plc:" + alice[8:] + ":" + d.AccessToken, "use an app password"}, {"", "", "no user name"},
	} {
		_, _, err := f.SignIn(t.Context(), c.user, c.password, client)
		var e *registry.Error
		if !errors.As(err, &e) || !errors.Is(e, registry.ErrUnauthorized) || !strings.Contains(e.Message, c.want) || strings.Contains(e.Message, "docker login") ||
			strings.HasSuffix(e.Message, ":") || strings.HasSuffix(e.Message, " ") {
			t.Errorf("%q: %v", c.user, err)
		}
	}
	// Signing out ends what nothing else acts by.
	if err := f.Sessions().End(t.Context(), bob, session); err != nil {
		t.Fatal(err)
	}
	if _, err := do(f, session, "x"); err != nil {
		t.Error("bob ended alice's session: ", err)
	}
	secret := f.login(app)
	if err := f.Sessions().End(t.Context(), alice, session); err != nil {
		t.Fatal(err)
	}
	f.answer(f.post(refreshForm(secret)))
	_, id := parseSecret(secret)
	if err := f.Logins().End(t.Context(), alice, id); err != nil {
		t.Fatal(err)
	}
	if err := f.Sessions().End(t.Context(), alice, session); err != nil {
		t.Fatal(err)
	}
	if _, err := do(f, session, "x"); !errors.Is(err, registry.ErrUnauthorized) || f.pds.count("com.atproto.server.deleteSession") != 1 {
		t.Error(err)
	}
	if err := f.Sessions().End(t.Context(), alice, "oauth-g"); err != nil || len(o.ends) != 0 {
		t.Error("the grant of a device was ended: ", err)
	}
}

// FuzzDeviceForms: whatever is posted to the device flow, the answer is one of RFC 8628's, and gives nobody a secret.
func FuzzDeviceForms(f *testing.F) {
	fix, _ := newFlow(f)
	c := fix.begin("x")
	for _, s := range []string{"client_id=x&device_name=y", "device_code=" + c.DeviceCode, "device_code=" + c.DeviceCode[:60] + "&grant_type=" + url.QueryEscape(deviceGrant),
		"", "%", "device_code=%00", "client_id=x&device_name=%ff%fe%00", "grant_type=x"} {
		f.Add("/auth/device/code", s)
		f.Add("/auth/device/token", s)
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		if path != "/auth/device/code" && path != "/auth/device/token" {
			t.Skip()
		}
		fix.pass(time.Minute)
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := fix.serve(r)
		var out struct {
			Error    string
			Access   string `json:"access_token"`
			UserCode string `json:"user_code"`
		}
		err := json.Unmarshal(w.Body.Bytes(), &out)
		good := w.Code == 200 && path == "/auth/device/code" && len(out.UserCode) == codeLength+1
		bad := (w.Code == 400 || w.Code == 429) && out.Error != ""
		if err != nil || out.Access != "" || !good && !bad {
			t.Fatalf("%s %q: %d %s", path, body, w.Code, w.Body)
		}
		if fix.clock().Unix()%600 == 0 {
			_ = fix.keep(t.Context())
		}
	})
}

// A device or robot acts by a grant of its own account, or not at all.
func TestGrantsOfOthers(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	bobs := o.add("bobs", bob)
	session := signedIn(t, f) // alice's
	ended := o.add("ended", alice)
	o.set(func() { o.grants[ended].Ended = "it was revoked" })
	c := f.begin("x")
	spec := Robot{Name: "ci", Repositories: []string{"*"}, Actions: pullPush}
	for what, act := range map[string]func(did, grant string) error{
		"device": func(did, grant string) error { return f.Devices().Approve(t.Context(), c.UserCode, did, "", grant) },
		"robot": func(did, grant string) error {
			_, _, err := f.Robots().Create(t.Context(), did, "", grant, spec)
			return err
		},
	} {
		if err := act(alice, bobs); err == nil || !strings.Contains(err.Error(), "not one of "+alice) {
			t.Errorf("%s: %v", what, err)
		}
		if err := act(bob, session); err == nil || !strings.Contains(err.Error(), "not one of "+bob) {
			t.Errorf("%s: %v", what, err)
		}
		for _, grant := range []string{ended, "oauth-none", "none"} {
			if err := act(alice, grant); !errors.Is(err, registry.ErrUnauthorized) {
				t.Errorf("%s by %s: %v", what, grant, err)
			}
		}
		if err := act(alice, ""); err == nil {
			t.Errorf("%s by nothing", what)
		}
		if err := act(alice, session); err != nil { // of an app password
			t.Errorf("%s: %v", what, err)
		}
	}
}

// On a full disk who has a secret signs in as before; what is to be kept is 507, and works when there is room again.
func TestSecretsOnAFullDisk(t *testing.T) {
	t.Parallel()
	if realtest.OnPostgres() {
		t.Skip("its disk is another one's")
	}
	disk := realtest.NewSmallDisk(t, 8<<20)
	f, o := newFlow(t)
	db := realtest.OpenDatabase(t, filepath.Join(disk.Dir, "auth.db"))
	t.Cleanup(func() { db.Close() })
	f.db, f.opts.DB = db, db
	f.restart()
	d := f.device("laptop", o.add("g", alice))
	login := f.login(app)
	c := f.begin("other")
	if err := f.Devices().Approve(t.Context(), c.UserCode, alice, "", o.add("h", alice)); err != nil {
		t.Fatal(err)
	}
	disk.Fill(0)
	f.pass(time.Hour)
	for _, s := range []string{d.AccessToken, login} {
		f.token("x", s, "repository:alice.test/app:pull")
	}
	full := 0
	for range 200 { // until the room that the database has in its files is used up
		r := httptest.NewRequest(http.MethodGet, "/auth/token?offline_token=true", nil)
		r.SetBasicAuth("alice.test", app)
		f.pass(time.Second)
		if w := f.serve(r); w.Code == http.StatusInsufficientStorage && code(t, w) == "UNKNOWN" {
			if full == 0 {
				f.pass(time.Hour) // the session is refreshed at the PDS, and can't be saved
			}
			full++
		} else if w.Code != 200 {
			t.Fatal(w.Code, w.Body)
		}
	}
	if full == 0 {
		t.Error("the disk was never full")
	}
	f.pass(-2*time.Hour - 2*time.Minute)
	w := f.poll(c.DeviceCode)
	if w.Code != http.StatusInsufficientStorage || !strings.Contains(w.Body.String(), "temporarily_unavailable") {
		t.Error(w.Code, w.Body)
	}
	if n := f.pds.count("com.atproto.server.createSession"); n != 1 || len(f.sessions.unsaved.all()) != 1 {
		t.Errorf("%d passwords were sent; unsaved: %d", n, len(f.sessions.unsaved.all()))
	}
	disk.Free()
	f.sessions.save(t.Context())
	if n := len(f.sessions.unsaved.all()); n != 0 {
		t.Errorf("%d are not saved", n)
	}
	f.restart()
	f.login(app)
	if n := f.pds.count("com.atproto.server.createSession"); n != 1 {
		t.Errorf("the session was lost: %d", n)
	}
	if p, d := f.polled(f.poll(c.DeviceCode)); p != "" || d.AccessToken == "" {
		t.Error(p)
	}
}
