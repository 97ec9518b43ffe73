package hold_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/serviceauth"
)

const setTier = "io.atcr.hold.updateCrewTier"

// anAppView is a did:web with a document of its own on loopback, which can be made to fail.
type anAppView struct {
	*identity.Identity
	answers atomic.Int64 // status in place of the document; 0 is the document
}

func newAppView(t *testing.T) *anAppView {
	t.Helper()
	a := &anAppView{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := a.answers.Load(); status != 0 {
			w.WriteHeader(int(status))
			return
		}
		identity.WellKnown(a.Identity).ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	var err error
	a.Identity, err = identity.LoadOrCreateDID(t.Context(), identity.Config{
		Dir: t.TempDir(), PublicURL: srv.URL, KeyType: "p256", TestMode: true, Log: slog.New(slog.DiscardHandler),
		Services: []identity.Service{{ID: "atcr_appview", Type: "AtcrAppView"}},
	})
	must(t, err)
	return a
}

// token is one of the AppView's about a user, changed by what a test tries.
func (a *anAppView) token(t *testing.T, h *testHold, user string, change ...func(*serviceauth.MintOptions)) string {
	t.Helper()
	o := serviceauth.MintOptions{Issuer: a.DID, Audience: h.DID(), Method: setTier, Subject: syntax.DID(user), Clock: h.net.clock}
	for _, f := range change {
		f(&o)
	}
	tok, err := serviceauth.Mint(a.Key, o)
	must(t, err)
	return "Bearer " + tok
}

// tierHold is a hold with three tiers, alice in its crew, that trusts the AppView and looks people up itself.
func tierHold(t *testing.T, a *anAppView, change ...func(*hold.Config)) (*testHold, *user) {
	t.Helper()
	n := newNetwork(t)
	alice := n.user("alice")
	h := newHold(t, n, append([]func(*hold.Config){func(c *hold.Config) {
		c.Crew = []hold.CrewMember{{Member: alice.did, Permissions: []string{"blob:read"}}}
		c.Tiers = []hold.Tier{{Name: "swabbie"}, {Name: "deckhand", Description: "for everyone"}, {Name: "bosun"}}
		c.AppViewDID = a.DID.String()
		c.Directory = identity.NewResolver(identity.ResolverOptions{TestMode: true, Clock: n.clock, Log: slog.New(slog.DiscardHandler)})
	}}, change...)...)
	return h, alice
}

func (h *testHold) crewRecord(did string) map[string]any {
	h.t.Helper()
	var out struct{ Value map[string]any }
	q := url.Values{"repo": {h.DID()}, "collection": {atcr.NSIDCrew}, "rkey": {atcr.CrewRKey(did)}}
	h.getJSON("/xrpc/com.atproto.repo.getRecord?"+q.Encode(), &out)
	return out.Value
}

func TestUpdateCrewTier(t *testing.T) {
	a := newAppView(t)
	h, alice := tierHold(t, a)
	before := h.crewRecord(alice.did)
	c := holdclient.New(holdclient.Options{DID: h.DID(), URL: h.url, HasHoldService: true, HTTP: http.DefaultClient})
	listed, err := c.ListTiers(t.Context())
	must(t, err)
	if len(listed) != 3 || listed[1].Name != "deckhand" || listed[1].Description != "for everyone" || listed[1].Quota != nil {
		t.Errorf("listed %+v", listed)
	}
	signed := c.As(func(_ context.Context, aud, lxm string) (string, error) {
		return serviceauth.Mint(a.Key, serviceauth.MintOptions{Issuer: a.DID, Audience: aud, Method: lxm, Subject: syntax.DID(alice.did)})
	})
	for rank, want := range []string{"swabbie", "deckhand", "bosun", "bosun"} {
		name, err := signed.UpdateCrewTier(t.Context(), alice.did, min(rank, 2))
		if err != nil || name != want {
			t.Errorf("rank %d: %q %v, want %q", rank, name, err, want)
		}
	}
	after := h.crewRecord(alice.did)
	if after["tier"] != "bosun" {
		t.Errorf("the record says %v", after["tier"])
	}
	delete(after, "tier")
	if got, want := fmt.Sprint(after), fmt.Sprint(before); got != want {
		t.Errorf("the rest of the record was %s, is %s", want, got)
	}
	// The AppView may spell itself as its operator wrote it.
	h.stop()
	h.cfg.AppViewDID = strings.Replace(a.DID.String(), "localhost%3A", "127.0.0.1:", 1)
	h.start()
	if code, out := h.callWith(a.token(t, h, alice.did), "POST", setTier, "", tier(alice.did, 0)); code != 200 ||
		out["tierName"] != "swabbie" {
		t.Errorf("%d %v", code, out)
	}
}

func tier(did string, rank any) map[string]any {
	return map[string]any{"userDid": did, "tierRank": rank}
}

// Nobody but the trusted AppView changes a tier, and it only as the token says: the record is as it was after every try.
func TestUpdateCrewTierRefuses(t *testing.T) {
	a, other := newAppView(t), newAppView(t)
	h, alice := tierHold(t, a)
	stranger := "did:plc:ssssssssssssssssssssssss"
	used := a.token(t, h, alice.did)
	if code, out := h.callWith(used, "POST", setTier, "", tier(alice.did, 1)); code != 200 {
		t.Fatalf("%d %v", code, out)
	}
	with := func(f func(*serviceauth.MintOptions)) string { return a.token(t, h, alice.did, f) }
	for name, c := range map[string]struct {
		authorization string
		body          any
		code          int
		error         string
	}{
		"anonymous":       {"", tier(alice.did, 2), 401, "AuthRequired"},
		"no JWT":          {"Bearer x", tier(alice.did, 2), 401, "AuthRequired"},
		"DPoP":            {"DPoP x", tier(alice.did, 2), 401, "AuthMissing"},
		"another AppView": {other.token(t, h, alice.did), tier(alice.did, 2), 401, "AuthRequired"},
		"another, as ours": {other.token(t, h, alice.did, func(o *serviceauth.MintOptions) { o.Issuer = a.DID }),
			tier(alice.did, 2), 401, "BadJwtSignature"},
		"for another hold": {with(func(o *serviceauth.MintOptions) { o.Audience = "did:web:other.test" }), tier(alice.did, 2), 401,
			"BadJwtAudience"},
		"for itself": {with(func(o *serviceauth.MintOptions) { o.Audience = a.DID.String() }), tier(alice.did, 2), 401,
			"BadJwtAudience"},
		"for another method": {with(func(o *serviceauth.MintOptions) { o.Method = "io.atcr.hold.setStats" }), tier(alice.did, 2), 401,
			"BadJwtLexiconMethod"},
		"as older AppViews have": {with(func(o *serviceauth.MintOptions) { o.Method = "com.atproto.repo.getRecord" }), tier(alice.did, 2),
			401, "BadJwtLexiconMethod"},
		"no sub":        {with(func(o *serviceauth.MintOptions) { o.Subject = "" }), tier(alice.did, 2), 401, "AuthRequired"},
		"sub is itself": {with(func(o *serviceauth.MintOptions) { o.Subject = a.DID }), tier(a.DID.String(), 2), 401, "AuthRequired"},
		"sub is another user": {with(func(o *serviceauth.MintOptions) { o.Subject = syntax.DID(stranger) }), tier(alice.did, 2), 403,
			"UserMismatch"},
		"expired": {with(func(o *serviceauth.MintOptions) {
			o.Clock = func() time.Time { return time.Now().Add(-10 * time.Minute) }
		}), tier(alice.did, 2), 401, "JwtExpired"},
		"from the future": {with(func(o *serviceauth.MintOptions) {
			o.Clock = func() time.Time { return time.Now().Add(10 * time.Minute) }
		}), tier(alice.did, 2), 401, "JwtExpired"},
		"used before":     {used, tier(alice.did, 2), 401, "JwtReplayed"},
		"not of the crew": {a.token(t, h, stranger), tier(stranger, 2), 404, "UserNotFound"},
		"the captain":     {a.token(t, h, h.owner.did), tier(h.owner.did, 2), 404, "UserNotFound"},
		"rank too high":   {a.token(t, h, alice.did), tier(alice.did, 3), 400, "InvalidRequest"},
		"rank below 0":    {a.token(t, h, alice.did), tier(alice.did, -1), 400, "InvalidRequest"},
		"rank a fraction": {a.token(t, h, alice.did), tier(alice.did, 1.5), 400, "InvalidRequest"},
		"rank as text":    {a.token(t, h, alice.did), tier(alice.did, "2"), 400, "InvalidRequest"},
		"no rank":         {a.token(t, h, alice.did), map[string]any{"userDid": alice.did}, 400, "InvalidRequest"},
		"no user":         {a.token(t, h, alice.did), map[string]any{"tierRank": 2}, 400, "InvalidRequest"},
		"user no DID":     {a.token(t, h, alice.did), tier("alice.test", 2), 400, "InvalidRequest"},
		"no body":         {a.token(t, h, alice.did), nil, 400, "InvalidRequest"},
		"a long body":     {a.token(t, h, alice.did), []byte(`{"x":"` + strings.Repeat("x", 1<<20) + `"}`), 413, "PayloadTooLarge"},
	} {
		code, out := h.callWith(c.authorization, "POST", setTier, "", c.body)
		if code != c.code || out["error"] != c.error {
			t.Errorf("%s: %d %v, want %d %s", name, code, out, c.code, c.error)
		}
		if got := h.crewRecord(alice.did)["tier"]; got != "deckhand" {
			t.Fatalf("%s: the tier is %v", name, got)
		}
	}
	// Users' own tokens, also the captain's, set no tiers, and neither does anybody at a hold that trusts no AppView.
	h.stop()
	h.cfg.Directory, h.cfg.AppViewDID = h.net.dir, ""
	h.start()
	for _, u := range []*user{alice, h.owner} {
		if code, out := h.call(u, "POST", setTier, "", tier(alice.did, 2)); code != 401 || out["error"] != "AuthRequired" {
			t.Errorf("%s without an AppView: %d %v", u.did, code, out)
		}
	}
	h.stop()
	h.cfg.AppViewDID, h.cfg.Tiers = alice.did, nil // the issuer is right, but names nobody; and there are no tiers
	h.start()
	if code, out := h.call(alice, "POST", setTier, "", tier(alice.did, 0)); code != 401 || out["error"] != "AuthRequired" {
		t.Errorf("%d %v", code, out)
	}
	if code, out := h.callWith("Bearer "+mintFor(t, alice, h, h.owner.did), "POST", setTier, "", tier(h.owner.did, 0)); code != 400 ||
		!strings.Contains(fmt.Sprint(out["message"]), "has 0 tiers") {
		t.Errorf("%d %v", code, out)
	}
}

func mintFor(t *testing.T, by *user, h *testHold, subject string) string {
	tok, err := serviceauth.Mint(by.key, serviceauth.MintOptions{Issuer: syntax.DID(by.did), Audience: h.DID(), Method: setTier,
		Subject: syntax.DID(subject)})
	must(t, err)
	return tok
}

// An AppView whose document can't be had is not believed, and is once it can.
func TestAppViewDocumentMissing(t *testing.T) {
	a := newAppView(t)
	h, alice := tierHold(t, a)
	ask := func() (int, string) {
		code, out := h.callWith(a.token(t, h, alice.did), "POST", setTier, "", tier(alice.did, 1))
		return code, fmt.Sprint(out["error"])
	}
	for status, want := range map[int64]string{500: "503 UpstreamFailure", 404: "401 BadJwtIss"} {
		a.answers.Store(status)
		if code, name := ask(); fmt.Sprint(code, " ", name) != want {
			t.Errorf("the document answers %d: %d %s, want %s", status, code, name, want)
		}
		h.net.now.Add(120) // past what a resolver remembers of failures
	}
	if h.crewRecord(alice.did)["tier"] != nil {
		t.Error("the tier changed")
	}
	a.answers.Store(0)
	if code, name := ask(); code != 200 {
		t.Errorf("with the document: %d %s", code, name)
	}
	a.answers.Store(500)
	if code, name := ask(); code != 200 {
		t.Errorf("with the document remembered: %d %s", code, name)
	}
}

// The trusted AppView's tokens open nothing else: in a user's name they are refused by every other method, in its own it is a
// as any other user is.
func TestTrustedTokenGivesNothingElse(t *testing.T) {
	a := newAppView(t)
	h, _ := tierHold(t, a)
	d := digest.FromString("x")
	for _, c := range []struct {
		verb, method, query string
		body                any
		own                 int // status of a token in its own name
	}{
		{"GET", "com.atproto.sync.getBlob", "did=" + h.owner.did + "&cid=" + d.String(), nil, 403},
		{"POST", "io.atcr.hold.initiateUpload", "", map[string]any{"digest": d}, 403},
		{"POST", "io.atcr.hold.getPartUploadUrl", "", map[string]any{"uploadId": "x", "partNumber": 1}, 400},
		{"PUT", "io.atcr.hold.uploadPart", "", []byte("x"), 400},
		{"POST", "io.atcr.hold.completeUpload", "", map[string]any{"uploadId": "x", "digest": d, "parts": []any{}}, 403},
		{"POST", "io.atcr.hold.abortUpload", "", map[string]any{"uploadId": "x"}, 400},
		{"GET", "io.atcr.hold.getUpload", "uploadId=x", nil, 400},
		{"POST", "io.atcr.hold.checkBlobs", "", map[string]any{"repository": "app", "digests": []any{}}, 403},
		{"POST", "io.atcr.hold.notifyManifest", "", map[string]any{"repository": "app", "userDid": h.owner.did, "manifestDigest": d,
			"operation": "push"}, 403},
		{"POST", "io.atcr.hold.notifyManifest", "", map[string]any{"repository": "app", "userDid": h.owner.did, "manifestDigest": d,
			"operation": "pull"}, 403},
		{"POST", "io.atcr.hold.requestCrew", "", map[string]any{}, 403},
		{"GET", "io.atcr.hold.getQuota", "userDid=" + h.owner.did, nil, 403},
		{"POST", "io.atcr.hold.setStats", "", map[string]any{"ownerDid": h.owner.did, "repository": "app", "pullCount": 9}, 403},
		{"POST", "com.atproto.repo.deleteRecord", "", map[string]any{"repo": h.DID(), "collection": atcr.NSIDCrew, "rkey": "x"}, 403},
		{"POST", "com.atproto.repo.uploadBlob", "", []byte("x"), 403},
		{"GET", "io.atcr.hold.exportUserData", "", nil, 200},
		{"POST", "io.atcr.hold.deleteUserData", "", map[string]any{}, 200},
	} {
		head := h.head()
		for _, subject := range []string{h.owner.did, ""} {
			tok := a.token(t, h, subject, func(o *serviceauth.MintOptions) { o.Method = c.method })
			code, out := h.callWith(tok, c.verb, c.method, c.query, c.body)
			if subject != "" && (code != 401 || out["error"] != "BadJwt") {
				t.Errorf("%s in the captain's name: %d %v", c.method, code, out)
			}
			if subject == "" && code != c.own {
				t.Errorf("%s in its own name: %d %v, want %d", c.method, code, out, c.own)
			}
		}
		if h.head() != head {
			t.Errorf("%s changed the repository", c.method)
		}
	}
}

// head is the repository's newest commit.
func (h *testHold) head() string {
	var out struct{ CID string }
	h.getJSON("/xrpc/com.atproto.sync.getLatestCommit?did="+url.QueryEscape(h.DID()), &out)
	return out.CID
}

func TestTierConfigRefused(t *testing.T) {
	for want, change := range map[string]func(*hold.Config){
		"AppViewDID":   func(c *hold.Config) { c.AppViewDID = "registry.example.com" },
		"twice":        func(c *hold.Config) { c.Tiers = []hold.Tier{{Name: "a"}, {Name: "a"}} },
		"no name":      func(c *hold.Config) { c.Tiers = []hold.Tier{{Name: "a"}, {}} },
		"32 bytes":     func(c *hold.Config) { c.Tiers = []hold.Tier{{Name: strings.Repeat("a", 33)}} },
		"at most 1000": func(c *hold.Config) { c.Tiers = make([]hold.Tier, 1001) },
	} {
		cfg := hold.Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com", OwnerDID: "did:web:o.test"}
		change(&cfg)
		if _, err := hold.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	if b, err := json.Marshal(hold.Tier{Name: "a"}); err != nil || string(b) != `{"name":"a"}` {
		t.Error(string(b), err)
	}
}
