package hold_test

import (
	"fmt"
	"testing"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
)

// A crew that is full of members who have nothing here takes new ones; who has something, or was given anything by the captain, stays.
func TestFullCrew(t *testing.T) {
	n := newNetwork(t)
	reader, configured := n.user("reader"), n.user("configured")
	h := newHold(t, n, func(c *hold.Config) {
		c.AllowAllCrew, c.MaxCrew = true, 6
		c.Crew = []hold.CrewMember{{Member: reader.did, Permissions: []string{"blob:read"}},
			{Member: configured.did, Permissions: []string{"blob:read", "blob:write"}}}
	})
	join := func(name string, want int) {
		t.Helper()
		if code, out := h.call(n.user(name), "POST", "io.atcr.hold.requestCrew", "", nil); code != want {
			t.Errorf("%s: %d %v, want %d", name, code, out, want)
		}
	}
	members := func() (list map[string]bool) {
		list = map[string]bool{}
		var page struct{ Records []struct{ Value atcr.Crew } }
		h.getJSON("/xrpc/com.atproto.repo.listRecords?repo="+h.DID()+"&collection="+atcr.NSIDCrew, &page)
		for _, r := range page.Records {
			list[r.Value.Member] = true
		}
		return list
	}
	for _, name := range []string{"pusher", "beginner", "idler", "zoe"} {
		join(name, 200)
	}
	h.push(n.user("pusher"), data(1, 10))
	_, err := h.client(n.user("beginner")).InitiateUpload(t.Context(), "")
	must(t, err)
	join("late", 403) // they all came just now
	n.now.Store(2 * 3600)
	join("zoe", 200) // is a member
	join("late", 200)
	if got := members(); len(got) != 5 || got[n.user("idler").did] || got[n.user("zoe").did] || !got[n.user("pusher").did] ||
		!got[n.user("beginner").did] || !got[reader.did] || !got[configured.did] {
		t.Errorf("%v", got)
	}
	join("idler", 200) // again
	join("zoe", 403)   // the others have something here, or came just now
}

// Asking for less keeps nobody's place: all who joined by themselves and have nothing here make room. What the captain said stays, also
// of one who joined, and when it is no longer configured: else leaving and joining would undo it.
func TestFullCrewOfThoseWhoAskForLess(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) { c.AllowAllCrew, c.MaxCrew = true, 4 })
	join := func(name string, want int, permissions ...string) {
		t.Helper()
		code, out := h.call(n.user(name), "POST", "io.atcr.hold.requestCrew", "", map[string]any{
			"permissions": append([]string{}, permissions...)})
		if code != want {
			t.Errorf("%s: %d %v, want %d", name, code, out, want)
		}
	}
	join("none", 200)
	join("reads", 200, "blob:read")
	join("writes", 200, "blob:write")
	join("told", 200, "blob:read")
	for _, crew := range [][]hold.CrewMember{{{Member: n.user("told").did, Role: "member", Permissions: []string{"blob:read"}}}, nil} {
		h.stop()
		h.cfg.Crew = crew
		h.start()
	}
	n.now.Store(2 * 3600)
	for _, name := range []string{"early", "more", "late"} {
		join(name, 200, "blob:read", "blob:write")
	}
	join("full", 403)
	var page struct{ Records []struct{ Value atcr.Crew } }
	h.getJSON("/xrpc/com.atproto.repo.listRecords?repo="+h.DID()+"&collection="+atcr.NSIDCrew, &page)
	got := map[string]bool{}
	for _, r := range page.Records {
		got[r.Value.Member] = true
	}
	for _, name := range []string{"told", "early", "more", "late"} {
		if !got[n.user(name).did] {
			t.Errorf("%s is no member: %v", name, got)
		}
	}
}

// Names that a wildcard gives join slowly, and keep nobody else from it.
func TestJoinsOfADomain(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) { c.AllowAllCrew = true })
	join := func(u *user) (int, map[string]any) { return h.call(u, "POST", "io.atcr.hold.requestCrew", "", nil) }
	codes := map[int]int{}
	for i := range 25 {
		code, out := join(n.userAs(fmt.Sprint("m", i), fmt.Sprintf("did:web:h%d.mallory.co.uk", i)))
		if codes[code]++; code == 429 && out["error"] != "RateLimitExceeded" {
			t.Errorf("%v", out)
		}
	}
	if codes[200] < 20 || codes[200] > 21 || codes[429] < 4 {
		t.Errorf("%v", codes)
	}
	if code, _ := join(n.known["m0"]); code != 200 {
		t.Errorf("a member that asks again: %d", code)
	}
	if code, _ := join(n.userAs("other", "did:web:alice.example.org")); code != 200 {
		t.Errorf("another domain: %d", code)
	}
	if code, _ := join(n.userAs("neighbour", "did:web:www.alice.co.uk")); code != 200 {
		t.Errorf("another domain under the same public suffix: %d", code)
	}
	n.now.Store(5 * 60)
	if code, _ := join(n.userAs("later", "did:web:later.mallory.co.uk")); code != 200 {
		t.Errorf("later: %d", code)
	}
}
