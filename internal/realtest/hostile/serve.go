package hostile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/identity/serviceauth"
	"github.com/atcr-dev/atcr/repo"
)

// nobody is an address at which nothing listens.
const nobody = "http://127.0.0.1:1"

// request is one call of a method at one party.
type request struct {
	w      http.ResponseWriter
	r      *http.Request
	m      Party // as it was when the call came
	p      *party
	method string
	hold   bool // at the hold, not at the PDS
}

// serve is the directory, each PDS and each hold: who is meant stands in the address or the query.
func (n *Network) serve(w http.ResponseWriter, r *http.Request) {
	path, q := r.URL.Path, r.URL.Query()
	if strings.HasPrefix(path, "/did:") {
		n.document(w, r, strings.TrimPrefix(path, "/"))
		return
	}
	did, hold := strings.CutPrefix(path, "/at/")
	if hold {
		did, path, _ = strings.Cut(did, "/")
		path = "/" + path
	} else if did = q.Get("repo"); did == "" {
		did = q.Get("did")
	}
	method, ok := strings.CutPrefix(path, "/xrpc/")
	if !ok {
		n.elsewhere(w, r)
		return
	}
	p, m := n.called(did, method)
	if p == nil && did != "" {
		refuse(w, http.StatusBadRequest, "RepoNotFound", "Could not find repo: "+did)
		return
	}
	c := request{w, r, m, p, method, hold}
	if n.misbehave(c) {
		return
	}
	if hold {
		n.atHold(c)
	} else {
		n.atPDS(c)
	}
}

// called counts a call, and returns whose it is.
func (n *Network) called(did, method string) (p *party, now Party) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls[call{did, method}]++
	if p = n.parties[did]; p != nil {
		now = p.Party
	}
	return p, now
}

func (n *Network) elsewhere(w http.ResponseWriter, r *http.Request) {
	if n.relay == nil {
		http.NotFound(w, r)
		return
	}
	n.relay.ServeHTTP(w, r)
}

// document answers as a PLC directory.
func (n *Network) document(w http.ResponseWriter, r *http.Request, did string) {
	p, m := n.called(did, "did")
	if p == nil {
		n.elsewhere(w, r)
		return
	}
	if m.Method == "did" && n.misbehave(request{w, r, m, p, "did", false}) {
		return
	}
	public, err := p.key.PublicKey()
	if err != nil {
		panic(err)
	}
	pds, hold := p.base, p.base+"/at/"+did
	if m.PDS == Gone {
		pds = nobody
	}
	if m.Hold == Gone {
		hold = nobody
	}
	answer(w, map[string]any{
		"@context": []string{"https://www.w3.org/ns/did/v1"}, "id": did, "alsoKnownAs": []string{},
		"verificationMethod": []any{map[string]any{
			"id": did + "#atproto", "type": "Multikey", "controller": did, "publicKeyMultibase": public.Multibase(),
		}},
		"service": []any{
			map[string]any{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds},
			map[string]any{"id": "#atcr_hold", "type": "AtcrHoldService", "serviceEndpoint": hold},
		},
	})
}

// misbehave does what the party does in the place of an answer, and reports whether that was all.
func (n *Network) misbehave(c request) bool {
	kind := c.m.PDS
	if c.hold || c.method == "did" && c.m.PDS == Honest {
		kind = c.m.Hold
	}
	whole := kind == Tarpit || kind == Slow || kind == Broken
	switch {
	case c.m.Method != "" && c.m.Method != c.method:
		return false
	case c.m.Method == "" && !c.hold && !whole && !strings.HasSuffix(c.method, "listRecords"):
		return false
	}
	switch kind {
	case Drip:
		n.stall(c, 1<<20-1024)
	case Hog:
		n.stall(c, 3<<19)
	case Trickle:
		for c.send([]byte(" ")) && n.wait(c, time.Second) {
		}
	case Flood:
		for b := bytes.Repeat([]byte(" "), 64<<10); c.send(b) && n.wait(c, 0); {
		}
	case Huge:
		c.w.Header().Set("Content-Length", strconv.Itoa(1<<30))
		n.stall(c, 1)
	case Broken:
		refuse(c.w, http.StatusInternalServerError, "InternalServerError", "it is broken")
	case Slow:
		return !n.wait(c, 250*time.Millisecond)
	case Tarpit:
		n.wait(c, n.o.Stall)
		panic(http.ErrAbortHandler)
	default:
		return false
	}
	return true
}

// stall sends so many bytes, and then nothing.
func (n *Network) stall(c request, size int) {
	c.w.Header().Set("Content-Type", "application/json")
	if c.send(bytes.Repeat([]byte(" "), size)) {
		n.wait(c, n.o.Stall)
	}
	panic(http.ErrAbortHandler)
}

// send reports whether the bytes went out.
func (c request) send(b []byte) bool {
	_, err := c.w.Write(b)
	return err == nil && http.NewResponseController(c.w).Flush() == nil
}

// wait reports whether the caller is still there after that time.
func (n *Network) wait(c request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.r.Context().Done():
	case <-n.done:
	}
	return false
}

// atPDS answers as an account's own server, without signing in for what can be read, and with every password for the rest.
func (n *Network) atPDS(c request) {
	q := c.r.URL.Query()
	switch {
	case c.method == "com.atproto.server.createSession":
		var in struct{ Identifier string }
		b, err := io.ReadAll(io.LimitReader(c.r.Body, 64<<10))
		if err != nil || json.Unmarshal(b, &in) != nil {
			refuse(c.w, http.StatusBadRequest, "InvalidRequest", "no identifier")
			return
		}
		n.session(c, in.Identifier)
	case c.method == "com.atproto.server.refreshSession":
		n.session(c, c.bearer())
	case c.method == "com.atproto.server.getServiceAuth":
		n.serviceToken(c, q.Get("aud"), q.Get("lxm"))
	case c.p == nil:
		refuse(c.w, http.StatusNotImplemented, "MethodNotImplemented", c.method)
	case strings.HasSuffix(c.method, "getLatestCommit"):
		rev := "3kaaaaaaaaa2a"
		if c.m.PDS == Fill || c.m.PDS == Endless {
			rev = fmt.Sprint("3k", time.Now().Unix())
		}
		answer(c.w, map[string]any{"cid": repo.BlobCID([]byte(rev)).String(), "rev": rev})
	case strings.HasSuffix(c.method, "listRecords"):
		n.list(c, q.Get("collection"), q.Get("cursor"), q.Get("limit"))
	case c.method == "com.atproto.repo.getRecord":
		n.record(c, q.Get("collection"), q.Get("rkey"))
	case strings.HasSuffix(c.method, "sync.getBlob"):
		n.blob(c, q.Get("cid"))
	default:
		refuse(c.w, http.StatusNotImplemented, "MethodNotImplemented", c.method)
	}
}

// session answers a sign-in. Its tokens begin with the DID, so that they can be told from each other.
func (n *Network) session(c request, did string) {
	token := func(kind string) string {
		text := did + "." + kind + "."
		return text + strings.Repeat("a", max(0, n.o.TokenBytes-len(text)))
	}
	answer(c.w, map[string]any{"did": did, "accessJwt": token("access"), "refreshJwt": token("refresh"), "active": true})
}

// bearer is the DID in the token.
func (c request) bearer() string {
	token := strings.TrimPrefix(c.r.Header.Get("Authorization"), "Bearer ")
	did, _, _ := strings.Cut(token, ".")
	return did
}

func (n *Network) serviceToken(c request, aud, lxm string) {
	n.mu.Lock()
	p := n.parties[c.bearer()]
	n.mu.Unlock()
	if p == nil {
		refuse(c.w, http.StatusUnauthorized, "InvalidToken", "whose is it?")
		return
	}
	token, err := serviceauth.Mint(p.key, serviceauth.MintOptions{Issuer: syntax.DID(p.did), Audience: aud, Method: lxm})
	if err != nil {
		refuse(c.w, http.StatusBadRequest, "InvalidRequest", err.Error())
		return
	}
	answer(c.w, map[string]any{"token": token})
}

// list answers listRecords.
func (n *Network) list(c request, collection, cursor, most string) {
	from, _ := strconv.Atoi(cursor)
	limit, err := strconv.Atoi(most)
	if err != nil || limit < 1 || limit > 100 {
		limit = 50
	}
	n.mu.Lock()
	all := c.p.manifests
	if collection == atcr.NSIDTag {
		all = c.p.tags
	}
	n.mu.Unlock()
	if collection != atcr.NSIDTag && collection != atcr.NSIDManifest {
		all = nil
	}
	page, next := all[min(from, len(all)):min(from+limit, len(all))], ""
	switch {
	case c.m.PDS == Fill && collection == atcr.NSIDManifest:
		page, next = nil, strconv.Itoa(from+limit)
		layers := manyLayers()
		for i := range limit {
			page = append(page, c.p.manifest(strconv.Itoa(from+i), layers))
		}
	case c.m.PDS == Cut && collection == atcr.NSIDManifest:
		if page, next = []entry{c.p.manifest("cut", manyLayers())}, "1"; from > 0 {
			c.cut()
			return
		}
	case c.m.PDS == Endless && collection == atcr.NSIDTag, c.m.PDS == Slow && collection == atcr.NSIDTag:
		if c.m.PDS == Slow {
			limit = 1
		}
		page, next = nil, strconv.Itoa(from+limit)
		for i := range limit {
			page = append(page, c.p.tag(from+i))
		}
	case c.m.PDS == Slow && collection == atcr.NSIDManifest:
		page, next = []entry{c.p.manifest(cursor, []byte("[]"))}, strconv.Itoa(from+1)
	case from+limit < len(all):
		next = strconv.Itoa(from + limit)
	}
	records := make([]json.RawMessage, len(page))
	for i, e := range page {
		records[i] = e.json
	}
	out := map[string]any{"records": records}
	if next != "" {
		out["cursor"] = next
	}
	answer(c.w, out)
}

// cut sends the first part of a list.
func (c request) cut() {
	c.w.Header().Set("Content-Type", "application/json")
	b := []byte(`{"records":[`)
	layers := manyLayers()
	for i := range 5 {
		seed := "same"
		if i > 0 {
			seed = fmt.Sprint(time.Now().UnixNano(), i)
		}
		b = append(append(b, c.p.manifest(seed, layers).json...), ',')
	}
	c.send(b)
}

// record answers getRecord, of a PDS's own lists and of a hold's captain.
func (n *Network) record(c request, collection, rkey string) {
	if c.hold && collection == atcr.NSIDCaptain {
		answer(c.w, map[string]any{
			"uri": "at://" + c.p.did + "/" + collection + "/self", "cid": repo.BlobCID(nil).String(),
			"value": map[string]any{"$type": collection, "owner": "did:plc:" + strings.Repeat("o", 24), "public": true,
				"allowAllCrew": true, "enableBlueskyPosts": false, "deployedAt": created},
		})
		return
	}
	n.mu.Lock()
	all := append(append([]entry(nil), c.p.manifests...), c.p.tags...)
	n.mu.Unlock()
	for _, e := range all {
		if e.rkey == rkey && bytes.Contains(e.json, []byte("/"+collection+"/")) {
			answer(c.w, json.RawMessage(e.json))
			return
		}
	}
	refuse(c.w, http.StatusBadRequest, "RecordNotFound", "Could not locate record")
}

// atHold answers as a hold whose captain lets everybody read, and which takes no writes.
func (n *Network) atHold(c request) {
	q := c.r.URL.Query()
	switch {
	case c.method == "com.atproto.repo.getRecord":
		n.record(c, q.Get("collection"), q.Get("rkey"))
	case strings.HasSuffix(c.method, "listRecords"):
		answer(c.w, map[string]any{"records": []any{}})
	case strings.HasSuffix(c.method, "sync.getBlob"):
		for i, link := range links {
			if q.Get("cid") == LinkDigest(i) {
				c.w.Header().Set("Location", link)
				c.w.WriteHeader(http.StatusTemporaryRedirect)
				return
			}
		}
		n.blob(c, q.Get("cid"))
	default:
		refuse(c.w, http.StatusNotImplemented, "MethodNotImplemented", c.method)
	}
}

func (n *Network) blob(c request, id string) {
	n.mu.Lock()
	b, ok := n.blobs[id]
	n.mu.Unlock()
	if !ok {
		refuse(c.w, http.StatusBadRequest, "BlobNotFound", "Blob not found")
		return
	}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(c.w, c.r, "", time.Time{}, bytes.NewReader(b))
}

func answer(w http.ResponseWriter, v any) {
	b := mustJSON(v)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // who hung up gets nothing
}

func refuse(w http.ResponseWriter, status int, name, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(mustJSON(map[string]string{"error": name, "message": message}))
}
