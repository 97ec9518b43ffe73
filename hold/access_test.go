package hold_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
)

// Who calls: the captain, crew of each right, a user without rights, nobody.
var callers = []string{"anonymous", "stranger", "none", "read", "write", "readwrite", "admin", "captain"}

// want is, for one operation, the status of each caller in that order, on a private and on a public hold.
type want struct{ private, public string }

// status is one letter of a row: ok, unauthorized, forbidden, redirected.
var status = map[byte]int{'.': 200, 'u': 401, 'f': 403, 'r': 307}

func TestRightsMatrix(t *testing.T) {
	n := newNetwork(t)
	users := map[string]*user{"anonymous": nil}
	for _, c := range callers[1 : len(callers)-1] {
		users[c] = n.user(c)
	}
	for _, public := range []bool{false, true} {
		h := newHold(t, n, func(c *hold.Config) {
			c.Public = public
			for name, perms := range map[string][]string{
				"none": {}, "read": {"blob:read"}, "write": {"blob:write"}, "readwrite": {"blob:read", "blob:write"}, "admin": {"crew:admin"},
			} {
				c.Crew = append(c.Crew, hold.CrewMember{Member: users[name].did, Permissions: perms})
			}
		})
		users["captain"] = h.owner
		d := h.push(h.owner, data(1, 100))
		for op, row := range map[string]struct {
			want
			do func(u *user) int
		}{
			"GET getBlob":  {want{"uffrrrrr", "rrrrrrrr"}, h.blobStatus(http.MethodGet, d)},
			"HEAD getBlob": {want{"uff.....", "........"}, h.blobStatus(http.MethodHead, d)},
			"initiateUpload": {want{"ufff....", "ufff...."}, func(u *user) int {
				code, _ := h.call(u, "POST", "io.atcr.hold.initiateUpload", "", map[string]any{"digest": d})
				return code
			}},
			"completeUpload": {want{"ufff....", "ufff...."}, h.completeStatus},
			"checkBlobs": {want{"ufff....", "ufff...."}, func(u *user) int {
				code, _ := h.call(u, "POST", "io.atcr.hold.checkBlobs", "", map[string]any{"repository": "app", "digests": []string{}})
				return code
			}},
			"notifyManifest push":   {want{"ufff....", "ufff...."}, h.notifyStatus("push")},
			"notifyManifest pull":   {want{"uff.....", "u......."}, h.notifyStatus("pull")},
			"notifyManifest delete": {want{"u.......", "u......."}, h.notifyStatus("delete")},
			"getQuota of oneself": {want{"u.......", "u......."}, func(u *user) int {
				code, _ := h.call(u, "GET", "io.atcr.hold.getQuota", "userDid="+didOf(u), nil)
				return code
			}},
			"getQuota of others": {want{"ufffff..", "ufffff.."}, func(u *user) int {
				code, _ := h.call(u, "GET", "io.atcr.hold.getQuota", "userDid=did:web:other.test", nil)
				return code
			}},
			"requestCrew where closed": {want{"uf......", "uf......"}, func(u *user) int {
				code, _ := h.call(u, "POST", "io.atcr.hold.requestCrew", "", map[string]any{})
				return code
			}},
			"setStats": {want{"ufffff..", "ufffff.."}, func(u *user) int {
				code, _ := h.call(u, "POST", "io.atcr.hold.setStats", "", map[string]any{"ownerDid": h.owner.did, "repository": "app", "pullCount": 3})
				return code
			}},
			"deleteRecord": {want{"ufffff..", "ufffff.."}, func(u *user) int {
				code, _ := h.call(u, "POST", "com.atproto.repo.deleteRecord", "",
					map[string]any{"repo": h.DID(), "collection": atcr.NSIDStats, "rkey": "gone"})
				return code
			}},
			"uploadBlob": {want{"ufffff..", "ufffff.."}, func(u *user) int {
				code, _ := h.call(u, "POST", "com.atproto.repo.uploadBlob", "", []byte("x"))
				return code
			}},
			"exportUserData": {want{"u.......", "u......."}, func(u *user) int {
				code, _ := h.call(u, "GET", "io.atcr.hold.exportUserData", "", nil)
				return code
			}},
			"getRecord": {want{"........", "........"}, func(u *user) int {
				code, _ := h.call(u, "GET", "com.atproto.repo.getRecord",
					url.Values{"repo": {h.DID()}, "collection": {atcr.NSIDCaptain}, "rkey": {"self"}}.Encode(), nil)
				return code
			}},
		} {
			letters := row.private
			if public {
				letters = row.public
			}
			for i, caller := range callers {
				if got, want := row.do(users[caller]), status[letters[i]]; got != want {
					t.Errorf("public=%v, %s as %s: %d, want %d", public, op, caller, got, want)
				}
			}
		}
	}
}

func didOf(u *user) string {
	if u == nil {
		return "did:web:nobody.test"
	}
	return u.did
}

func (h *testHold) blobStatus(verb string, d digest.Digest) func(*user) int {
	return func(u *user) int {
		code, _ := h.call(u, verb, "com.atproto.sync.getBlob", url.Values{"did": {h.DID()}, "cid": {d.String()}}.Encode(), nil)
		return code
	}
}

// completeStatus: one who may complete and names no upload is told so, which is past the right.
func (h *testHold) completeStatus(u *user) int {
	code, body := h.call(u, "POST", "io.atcr.hold.completeUpload", "", map[string]any{"uploadId": "none", "digest": digest.FromString("x")})
	if body["error"] == "InvalidUploadId" {
		return http.StatusOK
	}
	return code
}

func (h *testHold) notifyStatus(operation string) func(*user) int {
	return func(u *user) int {
		code, body := h.call(u, "POST", "io.atcr.hold.notifyManifest", "", map[string]any{
			"operation": operation, "repository": "app", "userDid": didOf(u), "manifestDigest": digest.FromString("none"),
		})
		if body["error"] == "ManifestRecordNotFound" {
			return http.StatusOK
		}
		return code
	}
}

func TestRightsOfAdmins(t *testing.T) {
	n := newNetwork(t)
	admin, member := n.user("admin"), n.user("member")
	h := newHold(t, n, func(c *hold.Config) {
		c.Crew = []hold.CrewMember{{Member: admin.did, Permissions: []string{"crew:admin"}},
			{Member: member.did, Permissions: []string{"blob:read"}}}
	})
	del := func(u *user, collection, rkey string) int {
		code, _ := h.call(u, "POST", "com.atproto.repo.deleteRecord", "", map[string]any{"repo": h.DID(), "collection": collection, "rkey": rkey})
		return code
	}
	for _, tt := range []struct {
		name             string
		who              *user
		collection, rkey string
		want             int
	}{
		{"the captain record", admin, atcr.NSIDCaptain, "self", 403},
		{"the captain record by the captain", h.owner, atcr.NSIDCaptain, "self", 403},
		{"one's own rights", admin, atcr.NSIDCrew, atcr.CrewRKey(admin.did), 403},
		{"a member", admin, atcr.NSIDCrew, atcr.CrewRKey(member.did), 200},
		{"an admin by the captain", h.owner, atcr.NSIDCrew, atcr.CrewRKey(admin.did), 200},
		{"one who was admin", admin, atcr.NSIDCrew, atcr.CrewRKey(member.did), 403},
		{"a bad key", h.owner, atcr.NSIDCrew, "../x", 400},
	} {
		if got := del(tt.who, tt.collection, tt.rkey); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	if code, _ := h.call(member, "GET", "com.atproto.sync.getBlob",
		url.Values{"did": {h.DID()}, "cid": {digest.FromString("x").String()}}.Encode(), nil); code != 403 {
		t.Errorf("a member who was removed reads: %d", code)
	}
}

// Layer records are those of their users, and the captain's to clear: a crew:admin deletes its own alone, whoever may read them by
// their at-uri.
func TestAdminsAndLayerRecords(t *testing.T) {
	h, alice, config, layer := pushed(t, func(c *hold.Config) {
		c.Crew = []hold.CrewMember{{Member: "did:plc:" + strings.Repeat("b", 20) + "boss", Permissions: []string{"crew:admin"}}}
	})
	admin := h.net.user("boss")
	push := func(u *user) {
		t.Helper()
		h.push(u, []byte("{}"))
		h.push(u, data(1, 1000))
		d, _ := u.putManifest(t, h, "app", config, layer)
		if code, out := h.notify(u, "push", "app", d); code != 200 {
			t.Fatalf("%d %v", code, out)
		}
	}
	push(alice)
	push(admin)
	must(t, h.PutForTest(t.Context(), atcr.NSIDLayer, "broken", map[string]any{"digest": 1}))
	keys := map[string][]string{alice.did: h.layerKeys(alice.did), admin.did: h.layerKeys(admin.did)}
	if len(keys[alice.did]) != 2 || len(keys[admin.did]) != 2 {
		t.Fatalf("%v", keys)
	}
	del := func(u *user, rkey string) int {
		code, _ := h.call(u, "POST", "com.atproto.repo.deleteRecord", "",
			map[string]any{"repo": h.DID(), "collection": atcr.NSIDLayer, "rkey": rkey})
		return code
	}
	for _, tt := range []struct {
		name string
		who  *user
		rkey string
		want int
	}{
		{"another's by an admin", admin, keys[alice.did][0], 403},
		{"one that can't be read by an admin", admin, "broken", 403},
		{"one's own by an admin", admin, keys[admin.did][0], 200},
		{"one that isn't there by an admin", admin, "none", 200},
		{"one's own by a member", alice, keys[alice.did][0], 403},
		{"another's by the captain", h.owner, keys[alice.did][0], 200},
		{"one that can't be read by the captain", h.owner, "broken", 200},
	} {
		if got := del(tt.who, tt.rkey); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	if a, b := h.layerKeys(alice.did), h.layerKeys(admin.did); len(a) != 1 || len(b) != 1 {
		t.Errorf("left: %v and %v", a, b)
	}
}

// layerKeys are the keys of a user's layer records that can be read.
func (h *testHold) layerKeys(did string) (keys []string) {
	h.t.Helper()
	var page struct {
		Records []struct {
			URI   string
			Value json.RawMessage
		}
	}
	h.getJSON("/xrpc/com.atproto.repo.listRecords?"+url.Values{"repo": {h.DID()}, "collection": {atcr.NSIDLayer}, "limit": {"100"}}.Encode(),
		&page)
	for _, r := range page.Records {
		var layer atcr.Layer
		if json.Unmarshal(r.Value, &layer) == nil && layer.UserDID == did {
			keys = append(keys, r.URI[strings.LastIndexByte(r.URI, '/')+1:])
		}
	}
	return keys
}

func TestRequestCrew(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) { c.AllowAllCrew = true; c.MaxCrew = 2 })
	for i, tt := range []struct {
		who  string
		body any
		code int
		want string
	}{
		{"a", map[string]any{"permissions": []string{"blob:read"}}, 200, "created"},
		{"a", map[string]any{"permissions": []string{"blob:read", "blob:write"}}, 200, "already_member"},
		{"b", map[string]any{"role": "admin"}, 400, "InvalidRequest"},
		{"b", map[string]any{"permissions": []string{"crew:admin"}}, 400, "InvalidRequest"},
		{"b", nil, 200, "created"},
		{"c", nil, 403, "Forbidden"},
	} {
		code, body := h.call(n.user(tt.who), "POST", "io.atcr.hold.requestCrew", "", tt.body)
		if got := fmt.Sprint(body["status"], body["error"]); code != tt.code || (body["status"] != tt.want && body["error"] != tt.want) {
			t.Errorf("%d: %d %s, want %d %s", i, code, got, tt.code, tt.want)
		}
	}
	if code, _ := h.call(n.user("a"), "POST", "io.atcr.hold.initiateUpload", "",
		map[string]any{"digest": digest.FromString("x")}); code != 403 {
		t.Errorf("asking again for more gave it: %d", code)
	}
}

func TestTokens(t *testing.T) {
	n := newNetwork(t)
	alice := n.user("alice")
	h := newHold(t, n, func(c *hold.Config) {
		c.Crew = []hold.CrewMember{{Member: alice.did, Permissions: []string{"blob:write"}}}
	})
	mint := func(aud, lxm string) string {
		token, err := alice.token(t.Context(), aud, lxm)
		must(t, err)
		return "Bearer " + token
	}
	twice := mint(h.DID(), "io.atcr.hold.getQuota")
	legacy := mint(h.DID(), "com.atproto.repo.getRecord")
	quota := "userDid=" + alice.did
	initiate := map[string]any{"digest": digest.FromString("x")}
	for _, tt := range []struct {
		name, auth, verb, method, query string
		body                            any
		want                            int
	}{
		{"its method", twice, "GET", "io.atcr.hold.getQuota", quota, nil, 200},
		{"the same token again", twice, "GET", "io.atcr.hold.getQuota", quota, nil, 401},
		{"the hold's service", mint(h.DID()+"#atcr_hold", "io.atcr.hold.getQuota"), "GET", "io.atcr.hold.getQuota", quota, nil, 200},
		{"the hold's repository", mint(h.DID()+"#atproto_pds", "io.atcr.hold.getQuota"), "GET", "io.atcr.hold.getQuota", quota, nil, 401},
		{"the hold's key", mint(h.DID()+"#atproto", "io.atcr.hold.getQuota"), "GET", "io.atcr.hold.getQuota", quota, nil, 401},
		{"upstream's token for the hold's repository", mint(h.DID()+"#atproto_pds", "com.atproto.repo.getRecord"), "POST",
			"io.atcr.hold.initiateUpload", "", initiate, 401},
		{"another hold", mint("did:web:other.test", "io.atcr.hold.getQuota"), "GET", "io.atcr.hold.getQuota", quota, nil, 401},
		{"another method", mint(h.DID(), "io.atcr.hold.requestCrew"), "GET", "io.atcr.hold.getQuota", quota, nil, 401},
		{"upstream's token", legacy, "POST", "io.atcr.hold.initiateUpload", "", initiate, 200},
		{"upstream's token again", legacy, "POST", "io.atcr.hold.initiateUpload", "", initiate, 200},
		{"upstream's token for getQuota", legacy, "GET", "io.atcr.hold.getQuota", quota, nil, 401},
		{"upstream's token for deleteUserData", legacy, "POST", "io.atcr.hold.deleteUserData", "", initiate, 401},
		{"upstream's token for setStats", legacy, "POST", "io.atcr.hold.setStats", "", initiate, 401},
		{"upstream's token for deleteRecord", legacy, "POST", "com.atproto.repo.deleteRecord", "", initiate, 401},
		{"upstream's token for uploadBlob", legacy, "POST", "com.atproto.repo.uploadBlob", "", initiate, 401},
		{"DPoP", "DPoP abc", "GET", "io.atcr.hold.getQuota", quota, nil, 401},
		{"a token that is none of ours", "Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL3gifQ.", "GET", "io.atcr.hold.getQuota", quota,
			nil, 401},
	} {
		code, body := h.callWith(tt.auth, tt.verb, tt.method, tt.query, tt.body)
		if code != tt.want || code != 200 && (body["error"] == "" || body["message"] == "") {
			t.Errorf("%s: %d %v, want %d", tt.name, code, body, tt.want)
		}
	}
	h.stop()
	h.cfg.RefuseLegacyTokens = true
	h.start()
	if code, _ := h.callWith(mint(h.DID(), "com.atproto.repo.getRecord"), "POST", "io.atcr.hold.initiateUpload", "", initiate); code != 401 {
		t.Errorf("upstream's token where refused: %d", code)
	}
}
