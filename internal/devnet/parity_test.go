package devnet_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/devnet"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// side is one of the two servers that the table runs against. vars are put for ${name} in steps.
type side struct {
	url  string
	vars map[string]string
}

// step is one request. Its answers must agree in status, error name and shape; keep picks values of the answer for later.
type step struct {
	name   string
	nsid   string // with its query
	token  string // name of a variable; empty: none
	body   any    // nil: a GET
	keep   map[string]string
	status int // as both must answer
}

const (
	tag  = "io.atcr.tag"
	self = "repo=${did}&collection=" + tag
)

func write(more dict) dict {
	d := dict{"repo": "${did}", "collection": tag}
	for k, v := range more {
		d[k] = v
	}
	return d
}

func record(v string) dict { return dict{"$type": tag, "v": v} }

func blobRecord(ref string) dict {
	return dict{"$type": tag, "b": dict{"$type": "blob", "ref": dict{"$link": ref},
		"mimeType": "application/vnd.oci.image.manifest.v1+json", "size": 19}}
}

func applied(kind, rkey string, v any) dict {
	d := dict{"$type": "com.atproto.repo.applyWrites#" + kind, "collection": tag, "rkey": rkey}
	if v != nil {
		d["value"] = v
	}
	return d
}

// steps run in order, each on both servers.
func steps() []step {
	in := func(d time.Duration) string { return fmt.Sprint(time.Now().Add(d).Unix()) }
	return slices.Concat([]step{
		{"health", "_health", "", nil, nil, 200},
		{"describe server", "com.atproto.server.describeServer", "", nil, nil, 200},
		{"unknown method", "com.atproto.nothing.here", "", nil, nil, 400},
		{"wrong password", "com.atproto.server.createSession", "", dict{"identifier": "alice.test", "password": "no"}, nil, 401},
		{"unknown account", "com.atproto.server.createSession", "", dict{"identifier": "zed.test", "password": "no"}, nil, 401},
		{"no password", "com.atproto.server.createSession", "", dict{"identifier": "alice.test"}, nil, 400},
		{"session", "com.atproto.server.createSession", "", dict{"identifier": "alice.test", "password": "${password}"},
			map[string]string{"access": "accessJwt", "refresh": "refreshJwt"}, 200},
		{"get session", "com.atproto.server.getSession", "access", nil, nil, 200},
		{"get session, no token", "com.atproto.server.getSession", "", nil, nil, 401},
		{"get session, junk token", "com.atproto.server.getSession", "junk", nil, nil, 400},
		{"get session, refresh token", "com.atproto.server.getSession", "refresh", nil, nil, 400},
		{"app password", "com.atproto.server.createAppPassword", "access", dict{"name": "one"},
			map[string]string{"appPassword": "password"}, 200},
		{"session by app password", "com.atproto.server.createSession", "", dict{"identifier": "${did}", "password": "${appPassword}"},
			map[string]string{"app": "accessJwt"}, 200},
		{"app password by app password", "com.atproto.server.createAppPassword", "app", dict{"name": "two"}, nil, 400},
		{"refresh", "com.atproto.server.refreshSession", "refresh", dict{},
			map[string]string{"access": "accessJwt", "refresh2": "refreshJwt"}, 200},
		{"refresh by access token", "com.atproto.server.refreshSession", "access", dict{}, nil, 400},
		{"delete session", "com.atproto.server.deleteSession", "refresh2", dict{}, nil, 200},
		{"refresh after delete", "com.atproto.server.refreshSession", "refresh2", dict{}, nil, 400},
		{"resolve", "com.atproto.identity.resolveHandle?handle=bob.test", "", nil, nil, 200},
		{"resolve nobody", "com.atproto.identity.resolveHandle?handle=nobody.test", "", nil, nil, 400},
		{"resolve junk", "com.atproto.identity.resolveHandle?handle=a_b", "", nil, nil, 400},
	}, recordSteps(), blobSteps(), syncSteps(), tokenSteps(in))
}

func recordSteps() []step {
	const create, put, del, apply = "com.atproto.repo.createRecord", "com.atproto.repo.putRecord", "com.atproto.repo.deleteRecord", "com.atproto.repo.applyWrites"
	return []step{
		{"create", create, "access", write(dict{"rkey": "a", "record": record("1")}),
			map[string]string{"cid": "cid", "commit": "commit.cid"}, 200},
		{"create again", create, "access", write(dict{"rkey": "a", "record": record("2")}), nil, 500},
		{"create without key", create, "app", write(dict{"record": record("1")}), nil, 200},
		{"create without type", create, "app", write(dict{"rkey": "b", "record": dict{"v": "1"}}), nil, 200},
		{"create, validate", create, "access", write(dict{"rkey": "c", "record": record("1"), "validate": true}), nil, 400},
		{"create, no validation", create, "access", write(dict{"rkey": "c", "record": record("1"), "validate": false}), nil, 200},
		{"create, other type", create, "access", write(dict{"rkey": "d", "record": dict{"$type": "io.atcr.other"}}), nil, 400},
		{"create, bad key", create, "access", write(dict{"rkey": "a/b", "record": record("1")}), nil, 400},
		{"create, bad collection", create, "access", write(dict{"collection": "tag", "rkey": "d", "record": record("1")}), nil, 400},
		{"create, stale commit", create, "access", write(dict{"rkey": "d", "record": record("1"), "swapCommit": "${commit}"}), nil, 400},
		{"create, junk commit", create, "access", write(dict{"rkey": "d", "record": record("1"), "swapCommit": "x"}), nil, 400},
		{"create, no token", create, "", write(dict{"rkey": "d", "record": record("1")}), nil, 401},
		{"create at bob's", create, "access", write(dict{"repo": "bob.test", "rkey": "d", "record": record("1")}), nil, 401},
		{"create at nobody's", create, "access", write(dict{"repo": "nobody.test", "rkey": "d", "record": record("1")}), nil, 403},
		{"put", put, "access", write(dict{"rkey": "a", "record": record("3")}), map[string]string{"cid2": "cid"}, 200},
		{"put the same", put, "access", write(dict{"rkey": "a", "record": record("3")}), nil, 200},
		{"put the same, stale swap", put, "access", write(dict{"rkey": "a", "record": record("3"), "swapRecord": "${cid}"}), nil, 200},
		{"put, stale swap", put, "access", write(dict{"rkey": "a", "record": record("4"), "swapRecord": "${cid}"}), nil, 400},
		{"put, right swap", put, "access", write(dict{"rkey": "a", "record": record("4"), "swapRecord": "${cid2}"}),
			map[string]string{"cid3": "cid"}, 200},
		{"put, swap null, there", put, "access", write(dict{"rkey": "a", "record": record("5"), "swapRecord": nil}), nil, 400},
		{"put, swap null, new", put, "access", write(dict{"rkey": "e", "record": record("5"), "swapRecord": nil}), nil, 200},
		{"put, swap, new", put, "access", write(dict{"rkey": "f", "record": record("5"), "swapRecord": "${cid}"}), nil, 400},
		{"put, stale commit", put, "access", write(dict{"rkey": "f", "record": record("5"), "swapCommit": "${commit}"}), nil, 400},
		{"put without key", put, "access", write(dict{"record": record("5")}), nil, 400},
		{"get", "com.atproto.repo.getRecord?rkey=a&" + self, "", nil, nil, 200},
		{"get by handle", "com.atproto.repo.getRecord?rkey=a&repo=alice.test&collection=" + tag, "", nil, nil, 200},
		{"get, cid", "com.atproto.repo.getRecord?rkey=a&cid=${cid3}&" + self, "", nil, nil, 200},
		{"get, old cid", "com.atproto.repo.getRecord?rkey=a&cid=${cid}&" + self, "", nil, nil, 400},
		{"get, missing", "com.atproto.repo.getRecord?rkey=zz&" + self, "", nil, nil, 400},
		{"get, no key", "com.atproto.repo.getRecord?" + self, "", nil, nil, 400},
		{"get at nobody's", "com.atproto.repo.getRecord?rkey=a&repo=nobody.test&collection=" + tag, "", nil, nil, 400},
		{"list", "com.atproto.repo.listRecords?limit=2&" + self, "", nil, map[string]string{"cursor": "cursor"}, 200},
		{"list on", "com.atproto.repo.listRecords?cursor=${cursor}&" + self, "", nil, nil, 200},
		{"list, reverse", "com.atproto.repo.listRecords?reverse=true&limit=1&" + self, "", nil, nil, 200},
		{"list, empty", "com.atproto.repo.listRecords?repo=${did}&collection=io.atcr.none", "", nil, nil, 200},
		{"list, limit 0", "com.atproto.repo.listRecords?limit=0&" + self, "", nil, nil, 400},
		{"list, limit 101", "com.atproto.repo.listRecords?limit=101&" + self, "", nil, nil, 400},
		{"describe", "com.atproto.repo.describeRepo?repo=alice.test", "", nil, nil, 200},
		{"describe nobody", "com.atproto.repo.describeRepo?repo=nobody.test", "", nil, nil, 400},
		{"apply", apply, "access", dict{"repo": "${did}",
			"writes": []any{applied("create", "x", record("1")), applied("create", "y", record("1")), applied("update", "a", record("6")),
				applied("delete", "e", nil)}}, map[string]string{"commit2": "commit.cid"}, 200},
		{"apply, create existing", apply, "access", dict{"repo": "${did}",
			"writes": []any{applied("create", "z", record("1")), applied("create", "x", record("1"))}}, nil, 500},
		{"apply was not in part", "com.atproto.repo.getRecord?rkey=z&" + self, "", nil, nil, 400},
		{"apply, update missing", apply, "access", dict{"repo": "${did}", "writes": []any{applied("update", "zz", record("1"))}}, nil, 500},
		{"apply, delete missing", apply, "access", dict{"repo": "${did}", "writes": []any{applied("delete", "zz", nil)}}, nil, 500},
		{"apply, right commit", apply, "access", dict{"repo": "${did}", "swapCommit": "${commit2}",
			"writes": []any{applied("update", "x", record("2"))}}, nil, 200},
		{"apply, stale commit", apply, "access", dict{"repo": "${did}", "swapCommit": "${commit2}",
			"writes": []any{applied("update", "x", record("3"))}}, nil, 400},
		{"apply, unknown action", apply, "access", dict{"repo": "${did}", "writes": []any{applied("move", "x", record("3"))}}, nil, 400},
		{"delete, stale swap", del, "access", write(dict{"rkey": "x", "swapRecord": "${cid}"}), nil, 400},
		{"delete", del, "app", write(dict{"rkey": "x"}), nil, 200},
		{"delete again", del, "access", write(dict{"rkey": "x"}), nil, 200},
		{"delete, GET", del, "access", nil, nil, 400},
	}
}

func blobSteps() []step {
	manifest := []byte(`{"schemaVersion":2}`)
	const put, get = "com.atproto.repo.putRecord", "com.atproto.sync.getBlob?did=${did}&cid="
	return []step{
		{"upload", "com.atproto.repo.uploadBlob", "app", manifest, map[string]string{"blob": "blob.ref.$link"}, 200},
		{"upload, no token", "com.atproto.repo.uploadBlob", "", manifest, nil, 401},
		{"blob without a record", get + "${blob}", "", nil, nil, 400},
		{"record of a missing blob", put, "access", write(dict{"rkey": "blob",
			"record": blobRecord("bafkreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454")}), nil, 400},
		{"record of the blob", put, "access", write(dict{"rkey": "blob", "record": blobRecord("${blob}")}), nil, 200},
		{"get blob", get + "${blob}", "", nil, nil, 200},
		{"list blobs", "com.atproto.sync.listBlobs?did=${did}", "", nil, nil, 200},
		{"record of another", put, "access", write(dict{"rkey": "blob", "record": record("1")}), nil, 200},
		{"get blob whose record went", get + "${blob}", "", nil, nil, 400},
		{"get blob, junk", get + "zzz", "", nil, nil, 400},
		{"get blob, no cid", "com.atproto.sync.getBlob?did=${did}", "", nil, nil, 400},
		{"list blobs, none", "com.atproto.sync.listBlobs?did=${did}", "", nil, nil, 200},
	}
}

func syncSteps() []step {
	return []step{
		{"latest commit", "com.atproto.sync.getLatestCommit?did=${did}", "", nil, nil, 200},
		{"latest commit, nobody", "com.atproto.sync.getLatestCommit?did=did:web:nobody.test", "", nil, nil, 400},
		{"latest commit, handle", "com.atproto.sync.getLatestCommit?did=alice.test", "", nil, nil, 400},
		{"status", "com.atproto.sync.getRepoStatus?did=${did}", "", nil, nil, 200},
		{"status, nobody", "com.atproto.sync.getRepoStatus?did=did:web:nobody.test", "", nil, nil, 400},
		{"repos", "com.atproto.sync.listRepos?limit=1", "", nil, nil, 200},
		{"export", "com.atproto.sync.getRepo?did=${did}", "", nil, nil, 200},
		{"export, nobody", "com.atproto.sync.getRepo?did=did:web:nobody.test", "", nil, nil, 400},
		{"proof", "com.atproto.sync.getRecord?did=${did}&rkey=a&collection=" + tag, "", nil, nil, 200},
		{"proof of absence", "com.atproto.sync.getRecord?did=${did}&rkey=zz&collection=" + tag, "", nil, nil, 200},
	}
}

func tokenSteps(in func(time.Duration) string) []step {
	const m = "com.atproto.server.getServiceAuth?"
	var out []step
	for aud, status := range map[string]int{
		"did:web:127.0.0.1%3A8080": 400, "did:web:127.0.0.1:8080": 400, "did:web:hold.test%3A8443": 400, "did:web:hold.test:path": 400,
		"did:key:zabc": 400, "hold.test": 400, "did:plc:short": 400,
		"did:web:localhost%3A8080": 200, "did:web:localhost": 200, "${did}": 200, "did:web:hold.test": 200, "did:web:hold.test#atcr_hold": 200,
	} {
		out = append(out, step{"token for " + aud, m + "lxm=io.atcr.hold.notifyManifest&aud=" + escape(aud), "access", nil, nil, status})
	}
	slices.SortFunc(out, func(a, b step) int { return strings.Compare(a.name, b.name) })
	hold := m + "aud=did:web:hold.test"
	return append(out,
		step{"token, no aud", m + "lxm=io.atcr.hold.notifyManifest", "access", nil, nil, 400},
		step{"token, no session", hold, "", nil, nil, 401},
		step{"token by app password", hold + "&lxm=io.atcr.hold.notifyManifest", "app", nil, nil, 200},
		step{"token without method", hold, "access", nil, nil, 200},
		step{"token, 50 minutes", hold + "&lxm=io.atcr.hold.notifyManifest&exp=" + in(50*time.Minute), "access", nil, nil, 200},
		step{"token, two hours", hold + "&lxm=io.atcr.hold.notifyManifest&exp=" + in(2*time.Hour), "access", nil, nil, 400},
		step{"token without method, five minutes", hold + "&exp=" + in(5*time.Minute), "access", nil, nil, 400},
		step{"token, expired", hold + "&lxm=io.atcr.hold.notifyManifest&exp=" + in(-time.Minute), "access", nil, nil, 400},
		step{"token, protected method", hold + "&lxm=com.atproto.server.getSession", "access", nil, nil, 400},
		step{"token, junk method", hold + "&lxm=x", "access", nil, nil, 400},
		step{"token, chat by app password", hold + "&lxm=chat.bsky.convo.getLog", "app", nil, nil, 400},
		step{"token, chat", hold + "&lxm=chat.bsky.convo.getLog", "access", nil, nil, 200},
	)
}

func escape(s string) string {
	if strings.HasPrefix(s, "$") {
		return s
	}
	return url.QueryEscape(s)
}

func (s *side) fill(text string) string {
	for k, v := range s.vars {
		text = strings.ReplaceAll(text, "${"+k+"}", v)
	}
	return text
}

// do runs a step on a side: status, error name, shape of the answer.
func (s *side) do(t *testing.T, st step) (int, string) {
	t.Helper()
	method, body := "GET", st.body
	if st.body != nil {
		method = "POST"
		if _, raw := body.([]byte); !raw {
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			if body = json.RawMessage(s.fill(string(text))); string(text) == "{}" {
				body, method = nil, "POST" // a call without input
			}
		}
	}
	status, answer := call(t, method, s.url+"/xrpc/"+s.fill(st.nsid), s.vars[st.token], body)
	var v any
	if json.Unmarshal(answer, &v) != nil {
		if status != 200 {
			t.Errorf("%s at %s: %d %q", st.name, s.url, status, answer)
		}
		return status, "bytes"
	}
	for name, path := range st.keep {
		at := v
		for key := range strings.SplitSeq(path, ".") {
			m, _ := at.(dict)
			at = m[key]
		}
		text, ok := at.(string)
		if !ok {
			t.Fatalf("%s at %s: no %s in %d %s", st.name, s.url, path, status, answer)
		}
		s.vars[name] = text
	}
	if m, ok := v.(dict); ok && status != 200 {
		return status, fmt.Sprint(m["error"])
	}
	return status, shape(v)
}

// shape is what an answer is made of, without its values. DID documents are compared elsewhere, and what either server may
// say besides is left out.
func shape(v any) string {
	switch v := v.(type) {
	case dict:
		var keys []string
		for k, x := range v {
			if k != "didDoc" && k != "links" && k != "contact" {
				keys = append(keys, k+":"+shape(x))
			}
		}
		slices.Sort(keys)
		return "{" + strings.Join(keys, " ") + "}"
	case []any:
		var all []string
		for _, x := range v {
			all = append(all, shape(x))
		}
		return "[" + strings.Join(all, " ") + "]"
	}
	return fmt.Sprintf("%T", v)
}

func devnetSide(t *testing.T) *side {
	n := start(t, devnet.Config{Dir: t.TempDir()})
	a := n.Accounts()[0]
	return &side{n.PDSURL(), map[string]string{"did": a.DID, "password": a.Password, "junk": "junk"}}
}

// TestSteps runs the table against our server alone: the statuses are what the reference answered.
func TestSteps(t *testing.T) {
	s := devnetSide(t)
	for _, st := range steps() {
		if status, got := s.do(t, st); status != st.status {
			t.Errorf("%s: %d %s, want %d", st.name, status, got, st.status)
		}
	}
}

// TestParity runs the table against ours and the reference PDS.
func TestParity(t *testing.T) {
	if os.Getenv("ATCR_REAL") == "off" {
		t.Skip("ATCR_REAL=off")
	}
	ref := realtest.Network(t, realtest.NetworkOptions{})
	a := ref.Account("alice")
	theirs := &side{a.PDS, map[string]string{"did": a.DID, "password": a.Password, "junk": "junk"}}
	ours := devnetSide(t)
	for _, st := range steps() {
		status, want := theirs.do(t, st)
		mine, got := ours.do(t, st)
		if status != st.status {
			t.Errorf("%s: the reference answers %d %s, the table says %d", st.name, status, want, st.status)
		}
		if mine != status || got != want {
			t.Errorf("%s:\n  ours      %d %s\n  reference %d %s", st.name, mine, got, status, want)
		}
	}
}
