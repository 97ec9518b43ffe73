package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/registry"
)

// post asks the token endpoint by OAuth2's form.
func (f *fixture) post(form url.Values) *httptest.ResponseRecorder {
	return f.postTo("/auth/token", form)
}

func (f *fixture) postTo(path string, form url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return f.serve(r)
}

// answer reads an answer that must be a token.
func (f *fixture) answer(w *httptest.ResponseRecorder) (out tokenAnswer) {
	f.t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 || out.Token == "" {
		f.t.Fatalf("%d %s", w.Code, w.Body)
	}
	return out
}

// refused is the message of an answer that must be a 401.
func (f *fixture) refused(w *httptest.ResponseRecorder) string {
	f.t.Helper()
	var out struct {
		Errors []struct{ Code, Message string }
	}
	err := json.Unmarshal(w.Body.Bytes(), &out)
	if err != nil || w.Code != 401 || len(out.Errors) != 1 || out.Errors[0].Code != "UNAUTHORIZED" || w.Header().Get("WWW-Authenticate") == "" {
		f.t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	return out.Errors[0].Message
}

// login is what docker login does: it returns the refresh token.
func (f *fixture) login(password string) string {
	f.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/auth/token?offline_token=true&account=alice.test&client_id=docker&service=x", nil)
	r.SetBasicAuth("alice.test", password)
	out := f.answer(f.serve(r))
	if kind, id := parseSecret(out.RefreshToken); kind != kindRefresh || id == "" {
		f.t.Fatalf("refresh token %q", out.RefreshToken)
	}
	return out.RefreshToken
}

func refreshForm(secret string, scopes ...string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {secret}, "client_id": {"docker"}, "service": {"x"}, "scope": scopes}
}

// dump is everything in the tables of this package.
func (f *fixture) dump() string {
	f.t.Helper()
	var b strings.Builder
	for _, table := range []string{"auth_session", "auth_token", "auth_device_code"} {
		rows, err := f.db.Read().QueryContext(f.t.Context(), "select * from "+table)
		if err != nil {
			f.t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			f.t.Fatal(err)
		}
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		for rows.Next() {
			if err := rows.Scan(values...); err != nil {
				f.t.Fatal(err)
			}
			for _, v := range values {
				if bytes, ok := (*v.(*any)).([]byte); ok {
					b.Write(bytes)
				} else {
					fmt.Fprint(&b, *v.(*any))
				}
				b.WriteByte('\n')
			}
		}
		if err := rows.Err(); err != nil {
			f.t.Fatal(err)
		}
		rows.Close()
	}
	return b.String()
}

// noSecrets fails when the database knows a secret, or the random part of one.
func (f *fixture) noSecrets(secrets ...string) {
	f.t.Helper()
	all := f.dump()
	for _, s := range secrets {
		if s == "" || !strings.HasPrefix(s, secretPrefix) || strings.Contains(all, s[len(s)-randomLength:]) {
			f.t.Errorf("%.20q… is in the database", s)
		}
	}
}

// The forms of docker's specification get a refresh token, and what it is for.
func TestRefreshToken(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	const scope = "repository:alice.test/app:pull,push"
	password := url.Values{"grant_type": {"password"}, "username": {"alice.test"}, "password": {app}, "client_id": {"x"}, "service": {"x"}}
	with := func(key, value string) url.Values {
		v := url.Values{key: {value}}
		for k := range password {
			v[k] = password[k]
		}
		return v
	}
	all := []string{f.login(app), f.answer(f.post(with("access_type", "offline"))).RefreshToken,
		f.answer(f.post(with("offline_token", "true"))).RefreshToken}
	session := signedIn(t, f)
	calls := f.pds.count("com.atproto.server.createSession") + f.pds.count("com.atproto.server.refreshSession")
	for _, secret := range all {
		for range 2 {
			out := f.answer(f.post(refreshForm(secret, scope, "repository:bob.test/app:push")))
			c, err := f.verify(out.Token, 0)
			if err != nil || c.DID != alice || c.Session != session || c.Token != secret[len("atcr_refresh_"):][:idLength] {
				t.Errorf("%+v %v", c, err)
			}
			if out.RefreshToken != "" || f.granted(out.Token) != "alice.test/app:pull,push" || out.Scope != scope || out.ExpiresIn != 300 {
				t.Errorf("%+v", out)
			}
			if actor, e := ask(f, out.Token, want("alice.test/app", registry.Push)); e != nil || actor.Session != session {
				t.Error(actor, e)
			}
		}
	}
	// By Basic as well, as containerd does after a refusal; and it begets no other.
	r := httptest.NewRequest(http.MethodGet, "/auth/token?offline_token=true", nil)
	r.SetBasicAuth("", all[0])
	if out := f.answer(f.serve(r)); out.RefreshToken != "" {
		t.Error("a refresh token for a refresh token")
	}
	if n := f.pds.count("com.atproto.server.createSession") + f.pds.count("com.atproto.server.refreshSession"); n != calls {
		t.Errorf("the PDS was asked %d times", n-calls)
	}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"not asked for": f.post(password), "online": f.post(with("access_type", "online")), "false": f.post(with("offline_token", "false")),
		"nonsense": f.post(with("offline_token", "yes, please")), "anonymous": f.post(url.Values{"offline_token": {"true"}}),
	} {
		if out := f.answer(w); out.RefreshToken != "" {
			t.Errorf("%s: a refresh token", name)
		}
	}
	// Secrets count from the body alone.
	w := f.serve(httptest.NewRequest(http.MethodPost, "/auth/token?"+refreshForm(all[0], scope).Encode(), nil))
	if out := f.answer(w); f.granted(out.Token) != "alice.test/app:pull" {
		t.Error("a refresh token in the URL was used")
	}
	f.noSecrets(all...)
	list, err := f.Logins().List(t.Context(), alice)
	if err != nil || len(list) != len(all) || list[0].Handle != "alice.test" || !list[0].Ends.Equal(f.clock().Add(loginLife)) {
		t.Errorf("%+v %v", list, err)
	}
	if list, err := f.Logins().List(t.Context(), bob); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
}

// A refresh token lives 90 days from its last use, and so does the session behind it, whose PDS is asked now and then.
func TestRefreshTokenLife(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.pds.set(func() { f.pds.life = 2 * time.Hour })
	secret, unused := f.login(app), f.login(app)
	days := func(n int) {
		for range n {
			f.pass(24 * time.Hour)
			if err := f.keep(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		days(60)
		f.answer(f.post(refreshForm(secret)))
	}
	c, err := f.verify(f.answer(f.post(refreshForm(secret))).Token, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := do(f, c.Session, "x"); err != nil {
		t.Errorf("the session behind it: %v", err)
	}
	if n := f.pds.count("com.atproto.server.refreshSession"); n < 180/8 || n > 180/6 {
		t.Errorf("%d refreshes in 180 days", n)
	}
	if text := f.refused(f.post(refreshForm(unused))); !strings.Contains(text, "refresh token is not, or no longer, known here") {
		t.Error(text)
	}
	f.pass(91 * 24 * time.Hour)
	if text := f.refused(f.post(refreshForm(secret))); !strings.Contains(text, "was not used for long and ended on 2027-") ||
		!strings.Contains(text, "docker login registry.example.com -u alice.test") {
		t.Error(text)
	}
	if err := f.keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := f.dump(); strings.Contains(all, alice) {
		t.Error("rows of it are left")
	}
	// Without one, a session is dropped after 30 days.
	signedIn(t, f)
	f.pass(31 * 24 * time.Hour)
	if err := f.keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := f.dump(); strings.Contains(all, alice) {
		t.Error("a session that nobody used is left")
	}
}

// What is ended is refused at once with words, and so are the registry tokens that it gave: on an upload's URL, too.
func TestEndedLogin(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	secret, other := f.login(app), f.login(app)
	const scope = "repository:alice.test/app:pull,push"
	token, others := f.answer(f.post(refreshForm(secret, scope))).Token, f.answer(f.post(refreshForm(other, scope))).Token
	upload := registry.Access{Repository: "alice.test/app", Actions: []registry.Action{registry.Push}, Upload: "u"}
	for _, w := range []registry.Access{want("alice.test/app", registry.Pull), upload, {}} {
		if _, e := ask(f, token, w); e != nil {
			t.Fatal(e)
		}
	}
	list, err := f.Logins().List(t.Context(), alice)
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	_, id := parseSecret(secret)
	if err := f.Logins().End(t.Context(), bob, id); err != ErrNoToken {
		t.Error("bob ends alice's: ", err)
	}
	if err := f.Devices().End(t.Context(), alice, id); err != ErrNoToken {
		t.Error("a login is ended as a device: ", err)
	}
	if err := f.Logins().End(t.Context(), alice, id); err != nil {
		t.Fatal(err)
	}
	if err := f.Logins().End(t.Context(), alice, id); err != ErrNoToken {
		t.Error(err)
	}
	if text := f.refused(f.post(refreshForm(secret))); !strings.Contains(text, "this sign-in of alice.test was ended on 2027-01-15 08:00 UTC") {
		t.Error(text)
	}
	for i, w := range []registry.Access{want("alice.test/app", registry.Pull), upload, {}} {
		_, e := ask(f, token, w)
		if e == nil || e.Status != 401 || !strings.Contains(e.Challenge, `error="invalid_token"`) || !strings.Contains(e.Message, "was ended on") {
			t.Errorf("%d: %+v", i, e)
		}
		if _, e := ask(f, others, w); e != nil {
			t.Errorf("%d: another's: %v", i, e)
		}
	}
	f.pass(time.Hour) // the registry token has ended by itself, which an upload may outlive
	if _, e := ask(f, others, upload); e != nil {
		t.Error(e)
	}
	if _, e := ask(f, token, upload); e == nil || e.Status != 401 {
		t.Error("an upload outlives the end of its sign-in")
	}
}

// Another process ends it: this one notices within seconds.
func TestEndedElsewhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	secret := f.login(app)
	token := f.answer(f.post(refreshForm(secret, "repository:alice.test/app:pull"))).Token
	pull := want("alice.test/app", registry.Pull)
	if _, e := ask(f, token, pull); e != nil {
		t.Fatal(e)
	}
	here := f.Auth
	f.restart()
	_, id := parseSecret(secret)
	if err := f.Logins().End(t.Context(), alice, id); err != nil {
		t.Fatal(err)
	}
	f.Auth = here
	f.pass(livesFor)
	if _, e := ask(f, token, pull); e == nil || e.Status != 401 {
		t.Error(e)
	}
	// So it is with a session.
	token = f.token("alice.test", app, "repository:alice.test/app:pull")
	if _, e := ask(f, token, pull); e != nil {
		t.Fatal(e)
	}
	c, err := f.verify(token, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.sessions.store.drop(t.Context(), c.Session); err != nil {
		t.Fatal(err)
	}
	f.pass(livesFor)
	if _, e := ask(f, token, pull); e == nil || e.Status != 401 || !strings.Contains(e.Message, "session has ended: sign in again: docker login registry.example.com") {
		t.Error(e)
	}
}

// A session that its server ended, or that made room: the refresh token says so.
func TestRefreshTokenOfEndedSession(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	secret := f.login(app)
	f.pds.set(func() { f.pds.refuse = true })
	f.pass(8 * 24 * time.Hour)
	if err := f.keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := f.refused(f.post(refreshForm(secret))); !strings.Contains(text, "can no longer act at the account's server") ||
		!strings.Contains(text, "docker login registry.example.com -u alice.test") {
		t.Error(text)
	}
	f.pds.set(func() { f.pds.refuse = false })
	f.answer(f.post(refreshForm(f.login(app))))
}

// Guessing: unknown ids, wrong secrets of known ids and things of no form are one answer, and are slowed. A good one never waits.
func TestGuessingSecrets(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	good := f.login(app)
	_, id := parseSecret(good)
	forged, _ := newSecret(kindRefresh, id)
	unknown, _ := newSecret(kindRefresh, newID())
	_, id2 := parseSecret(unknown)
	asDevice := strings.Replace(good, kindRefresh, kindDevice, 1)
	var first string
	for _, s := range []string{forged, unknown, "atcr_refresh_", "atcr_refresh_x", "x", "", strings.Repeat("x", 5000), good + "x", good[:len(good)-1],
		"atcr_refresh_" + id2 + "_" + strings.Repeat("=", randomLength), strings.ToUpper(good)} {
		f.pass(time.Hour)
		text := f.refused(f.post(refreshForm(s)))
		if first == "" {
			first = text
		}
		if text != first || strings.Contains(text, "alice") {
			t.Errorf("%.30q: %s", s, text)
		}
	}
	f.pass(time.Hour)
	if text := f.refused(f.get("alice.test", asDevice)); !strings.Contains(text, "this device's secret is not, or no longer, known here") {
		t.Error(text)
	}
	slowed := 0
	for range 40 {
		s, _ := newSecret(kindRefresh, newID())
		if w := f.post(refreshForm(s)); w.Code == 429 {
			slowed++
			if w.Header().Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
	}
	if slowed < 40-addressBurst || slowed > 40-addressBurst+1 {
		t.Errorf("%d of 40 guesses were slowed", slowed)
	}
	f.answer(f.post(refreshForm(good)))
	if n := f.pds.count("com.atproto.server.createSession"); n != 1 {
		t.Errorf("the PDS was asked %d times", n)
	}
}

// An account has at most maxLogins refresh tokens: those of jobs go before a laptop's.
func TestLoginsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	laptop := f.login(app)
	for range 3 {
		f.pass(24 * time.Hour)
		f.answer(f.post(refreshForm(laptop)))
	}
	var job string
	for i := range maxLogins + 10 {
		f.pass(2 * time.Hour)
		s := f.login(app)
		f.answer(f.post(refreshForm(s)))
		if i == 0 {
			job = s
		}
	}
	list, err := f.Logins().List(context.Background(), alice)
	if err != nil || len(list) != maxLogins {
		t.Errorf("%d, %v", len(list), err)
	}
	f.answer(f.post(refreshForm(laptop)))
	f.refused(f.post(refreshForm(job)))
}
