package auth

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/registry"
)

// robot makes one of alice's.
func (f *fixture) robot(grant string, o Robot) (secret string, t *Token) {
	f.t.Helper()
	secret, t, err := f.Robots().Create(f.t.Context(), alice, "alice.test", grant, o)
	if err != nil {
		f.t.Fatal(err)
	}
	return secret, t
}

var pullPush = []registry.Action{registry.Pull, registry.Push}

// A robot may what it was made for, in its repositories; elsewhere it is anonymous.
func TestRobotRights(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	grant := o.add("ci", alice)
	secret, r := f.robot(grant, Robot{Name: "ci", Repositories: []string{"app", "team/*", "Alice.test/cache-*-x"},
		Actions: []registry.Action{registry.Push}})
	if kind, id := parseSecret(secret); kind != kindRobot || id != r.ID || !r.Ends.Equal(f.clock().AddDate(0, 0, 90)) {
		t.Fatalf("%+v", r)
	}
	f.noSecrets(secret)
	token := f.token("whoever", secret, "repository:alice.test/app:pull,push,delete", "repository:alice.test/team/a/b:pull,push",
		"repository:did-plc-"+alice[8:]+"/cache-1-x:push", "repository:alice.test/other:pull,push", "repository:bob.test/app:pull,push",
		"repository:alice.test/appx:pull", "repository:alice.test:pull")
	if got := f.granted(token); got != "alice.test/app:pull,push alice.test/team/a/b:pull,push did-plc-"+alice[8:]+"/cache-1-x:push" {
		t.Error(got)
	}
	for _, c := range []struct {
		method string
		want   registry.Access
		status int
		who    string
	}{
		{"GET", registry.Access{}, 0, alice},
		{"GET", want("alice.test/app", registry.Pull), 0, alice},
		{"POST", want("alice.test/app", registry.Push), 0, alice},
		{"POST", want("alice.test/app", registry.Pull, registry.Push), 0, alice},
		{"DELETE", want("alice.test/app", registry.Delete), 403, ""},
		{"POST", want("alice.test/other", registry.Push), 403, ""},
		{"POST", want("bob.test/app", registry.Push), 403, ""},
		{"GET", want("alice.test/other", registry.Pull), 0, ""},    // as everybody
		{"HEAD", want("bob.test/app", registry.Pull), 0, ""},       // likewise
		{"POST", want("alice.test/other", registry.Pull), 403, ""}, // to mount from: by the robot's grant
	} {
		req := httptest.NewRequest(c.method, "/v2/", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		actor, err := f.Authorize(req, []registry.Access{c.want})
		var e *registry.Error
		switch errors.As(err, &e); {
		case (err == nil) != (c.status == 0), e != nil && e.Status != c.status:
			t.Errorf("%s %v: %v", c.method, c.want, err)
		case err == nil && (actor.ID != c.who || (actor.Session == grant) != (c.who != "") || actor.Challenge == "" || actor.NoToken):
			t.Errorf("%s %v: %+v", c.method, c.want, actor)
		}
		if c.status == 403 && strings.HasPrefix(c.want.Repository, "alice.test") && (!strings.Contains(e.Message, `the robot "ci" of alice.test may not`) ||
			!strings.Contains(e.Message, "it may pull, push app, team/*, cache-*-x.") ||
			!strings.Contains(e.Message, "https://registry.example.com/settings/access")) {
			t.Error(e.Message)
		}
	}
	// docker login with it keeps the secret itself.
	req := httptest.NewRequest(http.MethodGet, "/auth/token?offline_token=true", nil)
	req.SetBasicAuth("alice.test", secret)
	if out := f.answer(f.serve(req)); out.RefreshToken != "" {
		t.Error("a robot got a refresh token")
	}
	if n := len(f.pds.calls); n != 0 {
		t.Errorf("the PDS was asked %d times", n)
	}
}

// A CI job's life: near its end, renewed with a day's overlap, expired, renewed once more, ended.
func TestRobotLife(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	first, r := f.robot(o.add("ci", alice), Robot{Name: "ci", Repositories: []string{"*"}, Actions: pullPush, Days: 30})
	const scope = "repository:alice.test/app:push"
	state := func() *Token {
		t.Helper()
		list, err := f.Robots().List(t.Context(), alice)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return &list[0]
	}
	days := func(n int) { f.pass(time.Duration(n) * 24 * time.Hour) }
	days(15)
	if f.token("ci", first, scope); state().EndsSoon(f.clock()) {
		t.Error("it ends in 15 days: too soon to say so")
	}
	days(1)
	if !state().EndsSoon(f.clock()) {
		t.Error("it ends in 14 days, and nobody is told")
	}
	token := f.token("ci", first, scope)
	second, renewed, err := f.Robots().Renew(t.Context(), alice, r.ID, "", 10)
	if err != nil || second == first || !renewed.Ends.Equal(f.clock().AddDate(0, 0, 10)) || !renewed.OldUntil.Equal(f.clock().Add(24*time.Hour)) {
		t.Fatal(renewed, err)
	}
	f.noSecrets(first, second)
	for range 2 {
		if _, e := ask(f, token, want("alice.test/app", registry.Push)); e != nil {
			t.Error("a token of before the renewal: ", e)
		}
		f.token("ci", first, scope)
		f.token("ci", second, scope)
		f.pass(livesFor)
	}
	days(1)
	if text := f.refused(f.get("ci", first, scope)); !strings.Contains(text, `the robot "ci" of alice.test was renewed, and its secret of before ended on 2027-02-01`) {
		t.Error(text)
	}
	f.token("ci", second, scope)
	days(9)
	if err := f.keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{second, first} {
		if text := f.refused(f.get("ci", s, scope)); !strings.Contains(text, `the robot "ci" of alice.test ended on 2027-02-10 08:00 UTC: `+
			"renew it at https://registry.example.com/settings/access") {
			t.Error(text)
		}
	}
	if s := state(); !s.Ended(f.clock()) || !s.EndsSoon(f.clock()) {
		t.Errorf("%+v", s)
	}
	// It can be renewed; what had ended stays so.
	third, _, err := f.Robots().Renew(t.Context(), alice, r.ID, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	f.token("ci", third, scope)
	f.refused(f.get("ci", second, scope))
	if s := state(); s.Ended(f.clock()) || !s.Ends.Equal(f.clock().AddDate(0, 0, 90)) {
		t.Errorf("%+v", s)
	}
	// A month after its end its grant is ended; it is listed all the same, and renewed with another grant.
	days(90 + 31)
	if err := f.keep(t.Context()); err != nil || len(o.ends) != 1 {
		t.Error(err, o.ends)
	}
	if _, _, err := f.Robots().Renew(t.Context(), alice, r.ID, "", 0); !errors.Is(err, registry.ErrUnauthorized) ||
		!strings.Contains(err.Error(), "sign in there to renew it") {
		t.Error(err)
	}
	fourth, _, err := f.Robots().Renew(t.Context(), alice, r.ID, o.add("another", alice), 0)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := f.verify(f.token("ci", fourth, scope), 0)
	if err != nil || cl.Session != "oauth-another" || cl.Token != r.ID {
		t.Error(cl, err)
	}
	// Renewed with another grant, the one before ends.
	if _, _, err := f.Robots().Renew(t.Context(), alice, r.ID, o.add("third", alice), 0); err != nil || len(o.ends) != 2 || o.ends[1] != "oauth-another" {
		t.Error(err, o.ends)
	}
	f.token("ci", fourth, scope) // a day's overlap, by the new grant
	if err := f.Robots().End(t.Context(), alice, r.ID); err != nil || len(o.ends) != 3 {
		t.Fatal(err, o.ends)
	}
	if text := f.refused(f.get("ci", fourth, scope)); !strings.Contains(text, `the robot "ci" of alice.test was ended on 2027-0`) ||
		!strings.Contains(text, "make another one at https://registry.example.com/settings/access") {
		t.Error(text)
	}
	for what, err := range map[string]error{
		"ended twice": f.Robots().End(t.Context(), alice, r.ID),
		"renewed":     func() error { _, _, err := f.Robots().Renew(t.Context(), alice, r.ID, "", 0); return err }(),
	} {
		if !errors.Is(err, ErrNoToken) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if list, err := f.Robots().List(t.Context(), alice); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	days(91)
	if err := f.keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all := f.dump(); all != "" {
		t.Errorf("left: %s", all)
	}
}

// Signing out of the browser leaves a robot alone; an account has at most 100; others can't touch them.
func TestRobotsAreBounded(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	spec := Robot{Name: "ci", Repositories: []string{"*"}, Actions: pullPush}
	secret, r := f.robot(o.add("own", alice), spec)
	if err := f.Sessions().End(t.Context(), alice, o.add("browser", alice)); err != nil {
		t.Fatal(err)
	}
	f.token("ci", secret, "repository:alice.test/app:push")
	if _, _, err := f.Robots().Renew(t.Context(), bob, r.ID, "", 0); !errors.Is(err, ErrNoToken) {
		t.Error(err)
	}
	if err := f.Robots().End(t.Context(), bob, r.ID); !errors.Is(err, ErrNoToken) {
		t.Error(err)
	}
	for i := 1; i < maxRobots; i++ {
		f.robot(o.add(fmt.Sprint(i), alice), spec)
	}
	f.pass(100 * 24 * time.Hour) // all have ended, and are there
	_, _, err := f.Robots().Create(t.Context(), alice, "alice.test", o.add("x", alice), spec)
	if !errors.Is(err, registry.ErrDenied) || !strings.Contains(err.Error(), "alice.test has 100 robots") {
		t.Error(err)
	}
	if err := f.Robots().End(t.Context(), alice, r.ID); err != nil {
		t.Fatal(err)
	}
	f.robot(o.add("y", alice), spec)
	if _, _, err := f.Robots().Create(t.Context(), bob, "bob.test", o.add("z", bob), spec); err != nil {
		t.Error(err)
	}
}

// What is wrong with a robot is named.
func TestRobotMistakes(t *testing.T) {
	t.Parallel()
	f, o := newFlow(t)
	good := Robot{Name: "ci", Repositories: []string{"app"}, Actions: pullPush, Days: 1}
	many := make([]string, maxRobotPatterns+1)
	for i := range many {
		many[i] = fmt.Sprint("app", i)
	}
	for _, c := range []struct {
		change func(*Robot)
		want   string
	}{
		{func(r *Robot) { r.Name = " " }, "name has 1 to 64 bytes"}, {func(r *Robot) { r.Name = strings.Repeat("x", 65) }, "name has 1 to 64 bytes"},
		{func(r *Robot) { r.Name = "a\nb" }, "name has 1 to 64 bytes"}, {func(r *Robot) { r.Days = -1 }, "1 to 366 days, not -1"},
		{func(r *Robot) { r.Days = 367 }, "1 to 366 days"}, {func(r *Robot) { r.Actions = nil }, "choose pull"},
		{func(r *Robot) { r.Actions = []registry.Action{"*"} }, `not "*"`}, {func(r *Robot) { r.Repositories = nil }, "* is all of them"},
		{func(r *Robot) { r.Repositories = []string{"a", ""} }, "write * for all"}, {func(r *Robot) { r.Repositories = many }, "not 101"},
		{func(r *Robot) { r.Repositories = []string{"a b"} }, `"a b" is no name`}, {func(r *Robot) { r.Repositories = []string{"a/"} }, "is no name"},
		{func(r *Robot) { r.Repositories = []string{"/a"} }, "is no name"}, {func(r *Robot) { r.Repositories = []string{"a,b"} }, "is no name"},
		{func(r *Robot) { r.Repositories = []string{"alice.test/"} }, "write * for all"},
		{func(r *Robot) { r.Repositories = []string{strings.Repeat("a", 300)} }, "is no name"},
	} {
		r := good
		c.change(&r)
		_, _, err := f.Robots().Create(t.Context(), alice, "alice.test", o.add("g", alice), r)
		var e *registry.Error
		if !errors.As(err, &e) || e.Status != 400 || !strings.Contains(e.Message, c.want) {
			t.Errorf("%+v: %v, want %s", r, err, c.want)
		}
	}
	secret, r := f.robot(o.add("g", alice), Robot{Name: " CI für alles ", Repositories: []string{alice + "/app", "APP", "did-plc-" + alice[8:] + "/x", "bob.test/x"},
		Actions: []registry.Action{registry.Delete, registry.Push, registry.Push}, Days: 366})
	if r.Name != "CI für alles" || strings.Join(r.Repositories, " ") != "app x bob.test/x" || fmt.Sprint(r.Actions) != "[pull push delete]" {
		t.Errorf("%+v", r)
	}
	if _, _, err := f.Robots().Renew(t.Context(), alice, r.ID, "", 400); err == nil || !strings.Contains(err.Error(), "1 to 366 days, not 400") {
		t.Error(err)
	}
	if got := f.granted(f.token("ci", secret, "repository:alice.test/bob.test/x:*", "repository:bob.test/x:push")); got != "alice.test/bob.test/x:pull,push,delete" {
		t.Error(got)
	}
}

func TestLike(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"app", "app", true}, {"app", "apps", false}, {"app", "", false}, {"*", "", true}, {"*", "a/b/c", true}, {"app*", "app", true},
		{"app*", "a", false}, {"*app", "my/app", true}, {"*app", "app2", false}, {"a*a", "a", false}, {"a*a", "aa", true}, {"a*b*c", "abc", true},
		{"a*b*c", "axbxc", true}, {"a*b*c", "acb", false}, {"a*b*c", "ac", false}, {"a**b", "ab", true}, {"team/*", "team", false},
		{"team/*", "team/x", true}, {"*-x-*", "a-x-b", true}, {"*-x-*", "a-x", false}, {"*ab*ab", "ab", false}, {"*ab*ab", "abab", true},
	} {
		if got := like(c.pattern, c.name); got != c.want {
			t.Errorf("%s, %s: %v", c.pattern, c.name, got)
		}
	}
	if like(strings.Repeat("*a", 127)+"*b", strings.Repeat("a", 255)) { // and it ends soon
		t.Error("no b in it")
	}
}
