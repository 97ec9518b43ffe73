package hold_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/serviceauth"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/xrpc"
)

// user is somebody with a PDS of their own: our repo package behind its own XRPC reads.
type user struct {
	did  string
	pds  string // its URL
	net  *network
	key  atcrypto.PrivateKeyExportable
	repo *repo.Repo
	down atomic.Bool // the PDS answers 500
	asks atomic.Int64
}

// network is a directory of users.
type network struct {
	now   atomic.Int64 // offset of the clock, in seconds
	known map[string]*user
	t     testing.TB
	dir   *indigo.MockDirectory
}

func newNetwork(t testing.TB) *network {
	return &network{t: t, dir: identity.NewMockDirectory(), known: map[string]*user{}}
}

func (n *network) user(name string) *user {
	n.t.Helper()
	if u := n.known[name]; u != nil {
		return u
	}
	return n.userAs(name, fmt.Sprintf("did:plc:%s", strings.Repeat(name[:1], 24-len(name))+name))
}

// userAs is user with a DID of the caller's choice.
func (n *network) userAs(name, did string) *user {
	n.t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	must(n.t, err)
	u := &user{did: did, key: key, net: n}
	u.repo, err = repo.Open(n.t.Context(), memstore.New(), repo.Options{DID: did, Key: key, MaxBlob: 4 << 20})
	must(n.t, err)
	n.t.Cleanup(func() { _ = u.repo.Close() })
	h := xrpc.NewHandler(xrpc.One(xrpc.Account{Repo: u.repo}), nil)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.asks.Add(1)
		if u.down.Load() {
			http.Error(w, "down", http.StatusInternalServerError)
			return
		}
		h.ServeHTTP(w, r)
	}))
	n.t.Cleanup(srv.Close)
	u.pds = srv.URL
	n.add(u)
	n.known[name] = u
	return u
}

func (n *network) add(u *user) {
	pub, err := u.key.PublicKey()
	must(n.t, err)
	insert(n.dir, childUser{u.did, pub.Multibase(), u.pds})
}

// token is the user's token source for a hold client.
func (u *user) token(_ context.Context, aud, lxm string) (string, error) {
	return serviceauth.Mint(u.key, serviceauth.MintOptions{Issuer: syntax.DID(u.did), Audience: aud, Method: lxm, Clock: u.net.clock})
}

// putManifest makes an image of the layers and writes its record as an AppView does.
func (u *user) putManifest(t testing.TB, h *testHold, repository string, config digest.Digest,
	layers ...digest.Digest) (digest.Digest, []byte) {
	return u.putManifestAt(t, h.DID(), repository, config, layers...)
}

func (u *user) putManifestAt(t testing.TB, holdDID, repository string, config digest.Digest,
	layers ...digest.Digest) (digest.Digest, []byte) {
	t.Helper()
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: config, Size: 2}
	for _, l := range layers {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: l, Size: 1})
	}
	body, err := json.Marshal(m)
	must(t, err)
	d := digest.FromBytes(body)
	u.putRecord(t, repository, d, body, holdDID)
	return d, body
}

func (u *user) putRecord(t testing.TB, repository string, d digest.Digest, body []byte, holdDID string) {
	t.Helper()
	rec := map[string]any{
		"$type": atcr.NSIDManifest, "repository": repository, "digest": d.String(), "mediaType": ocispec.MediaTypeImageManifest,
		"schemaVersion": 2, "holdDid": holdDID, "createdAt": "2026-01-01T00:00:00.000Z",
		"manifestBlob": map[string]any{
			"$type": "blob", "ref": map[string]string{"$link": repo.BlobCID(body).String()},
			"mimeType": ocispec.MediaTypeImageManifest, "size": len(body),
		},
	}
	value, err := repo.RecordFrom(rec)
	must(t, err)
	_, err = u.repo.Apply(t.Context(), []repo.Write{{
		Action: repo.Put, Collection: atcr.NSIDManifest, RKey: atcr.ManifestRKey(d), Record: value,
		Blobs: []repo.Blob{{MediaType: ocispec.MediaTypeImageManifest, Data: body}},
	}})
	must(t, err)
}

func (u *user) deleteManifest(t testing.TB, d digest.Digest) {
	t.Helper()
	_, err := u.repo.Apply(t.Context(), []repo.Write{{Action: repo.Delete, Collection: atcr.NSIDManifest, RKey: atcr.ManifestRKey(d)}})
	must(t, err)
}

// testHold is a hold behind a listener that stays while the hold is stopped and started again.
type testHold struct {
	*hold.Server
	t       testing.TB
	net     *network
	cfg     hold.Config
	srv     *httptest.Server
	handler atomic.Pointer[http.Handler]
	log     *lockedBuffer
	owner   *user
	url     string
	did     string
	runs    bool
	ended   func() // ends Run and waits for it
}

// DID of the hold, also while it is stopped.
func (h *testHold) DID() string { return h.did }

func newHold(t testing.TB, n *network, change ...func(*hold.Config)) *testHold {
	t.Helper()
	h := &testHold{t: t, net: n, log: &lockedBuffer{}, owner: n.user("owner")}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	h.srv = &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := h.handler.Load(); p != nil {
			(*p).ServeHTTP(w, r)
			return
		}
		http.Error(w, "stopped", http.StatusBadGateway)
	})}}
	h.srv.Start()
	t.Cleanup(h.srv.Close)
	h.cfg = hold.Config{
		Dir: t.TempDir(), PublicURL: fmt.Sprintf("http://localhost:%d", ln.Addr().(*net.TCPAddr).Port), TestMode: true,
		OwnerDID: h.owner.did, Directory: n.dir,
		Log: slog.New(slog.NewTextHandler(h.log, nil)), Clock: n.clock,
	}
	if realtest.OnPostgres() {
		h.cfg.DB = realtest.OpenDatabase(t, h.cfg.Dir)
		t.Cleanup(func() { must(t, h.cfg.DB.Close()) })
	}
	for _, f := range change {
		f(&h.cfg)
	}
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

func (n *network) clock() time.Time {
	return time.Now().Add(time.Duration(n.now.Load()) * time.Second)
}

func (h *testHold) start() {
	h.t.Helper()
	s, err := hold.New(context.Background(), h.cfg)
	must(h.t, err)
	h.Server, h.did, h.url = s, s.DID(), h.srv.URL
	handler := s.Handler()
	h.handler.Store(&handler)
	if h.runs {
		h.run()
	}
}

// run has the server do what a hold does by itself, also after the next start.
func (h *testHold) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := h.Server
	go func() { done <- server.Run(ctx) }()
	h.runs = true
	h.ended = func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("run: %v", err)
		}
	}
}

func (h *testHold) stop() {
	h.handler.Store(nil)
	if h.ended != nil {
		h.ended()
		h.ended = nil
	}
	if h.Server != nil {
		if err := h.Server.Close(); err != nil {
			h.t.Errorf("close: %v", err)
		}
		h.Server = nil
	}
}

// client speaks to the hold as a user, or anonymously.
func (h *testHold) client(u *user) *holdclient.Client {
	o := holdclient.Options{DID: h.DID(), URL: h.url, HasHoldService: true, HTTP: http.DefaultClient}
	if u != nil {
		o.Token = u.token
	}
	return holdclient.New(o)
}

// push uploads bytes as one part.
func (h *testHold) push(u *user, data []byte) digest.Digest {
	h.t.Helper()
	ctx, c, d := h.t.Context(), h.client(u), digest.FromBytes(data)
	id, err := c.InitiateUpload(ctx, d)
	must(h.t, err)
	p, err := c.UploadPart(ctx, id, 1, int64(len(data)), bytes.NewReader(data))
	must(h.t, err)
	must(h.t, c.CompleteUpload(ctx, id, d, []holdclient.Part{p}))
	return d
}

// read follows getBlob to the bytes.
func (h *testHold) read(u *user, d digest.Digest) []byte {
	h.t.Helper()
	b, err := h.client(u).GetBlob(h.t.Context(), h.DID(), d, "")
	must(h.t, err)
	body := b.Body
	if b.URL != "" {
		resp, err := http.Get(b.URL)
		must(h.t, err)
		if resp.StatusCode != http.StatusOK {
			h.t.Fatalf("GET %s: %s", b.URL, resp.Status)
		}
		body = resp.Body
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	must(h.t, err)
	return data
}

// layers lists the hold's layer records by its public API.
func (h *testHold) layers() []atcr.Layer {
	h.t.Helper()
	var out []atcr.Layer
	cursor := ""
	for {
		q := url.Values{"repo": {h.DID()}, "collection": {atcr.NSIDLayer}, "limit": {"100"}, "cursor": {cursor}}
		if cursor == "" {
			q.Del("cursor")
		}
		var page struct {
			Cursor  string
			Records []struct{ Value atcr.Layer }
		}
		h.getJSON("/xrpc/com.atproto.repo.listRecords?"+q.Encode(), &page)
		for _, r := range page.Records {
			out = append(out, r.Value)
		}
		if cursor = page.Cursor; cursor == "" || len(page.Records) == 0 {
			return out
		}
	}
}

func (h *testHold) getJSON(path string, v any) {
	h.t.Helper()
	resp, err := http.Get(h.url + path)
	must(h.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(h.t, err)
	if resp.StatusCode != http.StatusOK {
		h.t.Fatalf("GET %s: %s: %s", path, resp.Status, b)
	}
	must(h.t, json.Unmarshal(b, v))
}

// call makes a raw XRPC request as a user (nil: anonymous) and answers status and body.
func (h *testHold) call(u *user, verb, method, query string, body any) (int, map[string]any) {
	h.t.Helper()
	token := ""
	if u != nil {
		var err error
		token, err = u.token(h.t.Context(), h.DID(), method)
		must(h.t, err)
	}
	return h.callWith("Bearer "+token, verb, method, query, body)
}

func (h *testHold) callWith(authorization, verb, method, query string, body any) (int, map[string]any) {
	h.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(b)
	default:
		js, err := json.Marshal(b)
		must(h.t, err)
		r = bytes.NewReader(js)
	}
	u := h.url + "/xrpc/" + method
	if query != "" {
		u += "?" + query
	}
	req, err := http.NewRequestWithContext(h.t.Context(), verb, u, r)
	must(h.t, err)
	if authorization != "Bearer " && authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	must(h.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(h.t, err)
	out := map[string]any{}
	_ = json.Unmarshal(b, &out)
	return resp.StatusCode, out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dataDir is where the hold of a configuration lies.
func dataDir(t testing.TB, cfg hold.Config) datadir.Config {
	t.Helper()
	dir, err := cfg.DataDir()
	must(t, err)
	return dir
}
