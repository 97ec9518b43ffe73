package pds_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/devnet"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// account is somebody with a repository at the PDS.
type account struct{ handle, did, password string }

// world is a PDS, a directory and a hold, each behind a proxy that can fail, and a backend over them.
type world struct {
	t          testing.TB
	opened     *sql.DB // by table
	plc        string
	pdsProxy   *realtest.FaultProxy
	holdProxy  *realtest.FaultProxy
	holdTarget string   // what it stands before
	pdsTarget  string   // behind the proxy
	users      []string // nil is alice and bob
	accounts   map[string]account
	holdServer *hold.Server
	holdDir    string
	holdConfig func(*hold.Config)
	dir        string
	directory  *identity.Resolver
	sessions   *sessions
	clock      *clock
	options    func(*pds.Options)
	crash      crashpoint.Hook
	backend    *pds.Backend
	stop       func()
}

// clock is real time plus what a test adds; frozen, it moves by that alone.
type clock struct {
	mu     sync.Mutex
	add    time.Duration
	frozen time.Time
}

func (c *clock) freeze() { c.frozen = time.Now() }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.frozen.IsZero() {
		return c.frozen.Add(c.add)
	}
	return time.Now().Add(c.add)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add += d
}

func newWorld(t testing.TB, start func(*world), set ...func(*world)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), holdDir: t.TempDir(), accounts: map[string]account{}, clock: &clock{}}
	for _, f := range set {
		f(w)
	}
	start(w)
	w.directory = identity.NewResolver(identity.ResolverOptions{PLCURL: w.plc, HandleResolverURL: w.pdsProxy.URL, TestMode: true})
	w.sessions = &sessions{w: w, tokens: map[string]string{}, http: &http.Client{}}
	w.holdProxy = realtest.NewFaultProxy(t, "")
	w.startHold()
	w.start()
	t.Cleanup(func() {
		w.stop()
		w.holdServer.Close()
	})
	return w
}

func (w *world) startHold() {
	cfg := hold.Config{
		Dir: w.holdDir, PublicURL: w.holdProxy.URL, OwnerDID: w.accounts["alice"].did, Public: true, AllowAllCrew: true, TestMode: true,
		PLCURL: w.plc, HandleResolverURL: w.pdsProxy.URL, Log: quiet(),
	}
	if w.holdConfig != nil {
		w.holdConfig(&cfg)
	}
	var err error
	w.holdServer, err = hold.New(w.t.Context(), cfg)
	must(w.t, err)
	srv := httptest.NewServer(w.holdServer.Handler())
	w.t.Cleanup(srv.Close)
	w.holdTarget = srv.URL
	w.holdProxy.SetTarget(srv.URL)
}

// start makes a backend on the world's database; stop ends it as a server would.
func (w *world) start() {
	w.t.Helper()
	db := realtest.OpenDatabase(w.t, filepath.Join(w.dir, "appview.db"))
	o := pds.Options{
		DB: db, Dir: w.tails(), Directory: w.directory, HTTP: &http.Client{}, Sessions: w.sessions, DefaultHold: w.holdServer.DID(),
		Clock: w.clock.now, Log: quiet(),
	}
	if w.options != nil {
		w.options(&o)
	}
	var err error
	w.backend, err = pds.New(crashpoint.With(context.Background(), w.crash), o)
	must(w.t, err)
	b := w.backend
	if realtest.OnPostgres() {
		realtest.SortsByBytes(w.t, db)
	}
	w.stop = sync.OnceFunc(func() {
		must(w.t, b.Close())
		must(w.t, db.Close())
	})
}

// tails is the folder of uploads' tails.
func (w *world) tails() string { return filepath.Join(w.dir, "uploads") }

// in reports to a subtest until the function it answers is called.
func (w *world) in(t testing.TB) func() {
	outer := w.t
	w.t = t
	return func() { w.t = outer }
}

// restart ends the backend and starts one on the same database.
func (w *world) restart() {
	w.stop()
	w.start()
}

func quiet() *slog.Logger {
	return slog.New(slog.DiscardHandler)
}

func (w *world) actor(name string) registry.Actor {
	if name == "" {
		return registry.Actor{Challenge: `Bearer realm="here"`}
	}
	return registry.Actor{ID: w.accounts[name].did, Session: name}
}

// repo is alice's or another's repository as somebody sees it.
func (w *world) repo(as, owner, name string) registry.Repository {
	w.t.Helper()
	r, err := w.backend.Repository(w.t.Context(), w.actor(as), w.accounts[owner].handle+"/"+name)
	must(w.t, err)
	return r
}

// sessions signs in with passwords, as registry/auth does for docker.
type sessions struct {
	w      *world
	http   *http.Client
	mu     sync.Mutex
	tokens map[string]string
	ended  map[string]bool
}

func (s *sessions) token(ctx context.Context, session string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended[session] {
		return "", registry.ErrUnauthorized
	}
	if t := s.tokens[session]; t != "" {
		return t, nil
	}
	a := s.w.accounts[session]
	var out struct {
		AccessJwt string `json:"accessJwt"`
	}
	in, _ := json.Marshal(map[string]string{"identifier": a.did, "password": a.password})
	resp, err := s.http.Post(s.w.pdsProxy.URL+"/xrpc/com.atproto.server.createSession", "application/json", bytes.NewReader(in))
	if err != nil {
		return "", registry.ErrUnavailable.Wrap(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.AccessJwt == "" {
		return "", registry.ErrUnauthorized.Wrap(err)
	}
	s.tokens[session] = out.AccessJwt
	return out.AccessJwt, nil
}

// end has a session end; begin is a new sign-in.
func (s *sessions) end(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.ended = map[string]bool{}
	}
	s.ended[session] = true
}

func (s *sessions) begin(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ended, session)
}

func (s *sessions) Do(ctx context.Context, session string, req *http.Request) (*http.Response, error) {
	token, err := s.token(ctx, session)
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(s.w.pdsProxy.URL)
	if err != nil {
		return nil, err
	}
	req.URL.Scheme, req.URL.Host = base.Scheme, base.Host
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, registry.ErrUnavailable.Wrap(err)
	}
	return resp, nil
}

func (s *sessions) ServiceToken(ctx context.Context, session, aud, lxm string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/xrpc/com.atproto.server.getServiceAuth?"+
		url.Values{"aud": {aud}, "lxm": {lxm}}.Encode(), nil)
	if err != nil {
		return "", err
	}
	resp, err := s.Do(ctx, session, req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", registry.ErrUnavailable.Wrap(err)
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		return "", registry.ErrTooManyRequests
	}
	var out struct{ Token string }
	if err := json.Unmarshal(raw, &out); err != nil || out.Token == "" {
		return "", registry.ErrUnavailable.Wrap(fmt.Errorf("getServiceAuth: %d %s", resp.StatusCode, raw))
	}
	return out.Token, nil
}

// image is a manifest with its blobs.
type image struct {
	manifest registry.ParsedManifest
	blobs    [][]byte
}

func newImage(t testing.TB, seed string, annotations map[string]string) image {
	t.Helper()
	config := []byte(`{"architecture":"amd64","os":"linux","seed":"` + seed + `"}`)
	layer := bytes.Repeat([]byte("layer "+seed+"\n"), 1000)
	desc := func(mediaType string, b []byte) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	}
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: desc(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{desc(ocispec.MediaTypeImageLayerGzip, layer)},
		Annotations: annotations,
	})
	must(t, err)
	m, err := registry.ParseManifest("", raw, "")
	must(t, err)
	return image{m, [][]byte{config, layer}}
}

func parse(t testing.TB, v any) registry.ParsedManifest {
	t.Helper()
	raw, err := json.Marshal(v)
	must(t, err)
	m, err := registry.ParseManifest("", raw, "")
	must(t, err)
	return m
}

// upload sends a blob as docker does: POST, PATCH, PUT.
func upload(ctx context.Context, r registry.Repository, b []byte) error {
	up, err := r.StartUpload(ctx, registry.UploadHint{})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	id := up.ID()
	if err := up.Close(); err != nil {
		return err
	}
	if up, err = r.Upload(ctx, id); err != nil {
		return fmt.Errorf("continue: %w", err)
	}
	if _, err := up.ReadFrom(bytes.NewReader(b)); err != nil {
		up.Close()
		return fmt.Errorf("send: %w", err)
	}
	if err := up.Close(); err != nil {
		return err
	}
	if up, err = r.Upload(ctx, id); err != nil {
		return fmt.Errorf("finish: %w", err)
	}
	defer up.Close()
	if _, err = up.Commit(ctx, digest.FromBytes(b)); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// push pushes an image as a client does.
func push(ctx context.Context, r registry.Repository, img image, tags ...string) error {
	for _, b := range img.blobs {
		if err := upload(ctx, r, b); err != nil {
			return err
		}
	}
	return r.PutManifest(ctx, img.manifest, tags)
}

func (w *world) push(name string, img image, tags ...string) {
	w.t.Helper()
	must(w.t, push(w.t.Context(), w.repo("alice", "alice", name), img, tags...))
}

// settled waits until no intent is open.
func (w *world) settled() {
	w.t.Helper()
	must(w.t, realtest.WaitFor(time.Minute, func() error {
		if _, err := w.backend.Settle(w.t.Context()); err != nil {
			return err
		}
		open, err := w.backend.Unsettled(w.t.Context(), "")
		if err == nil && len(open) > 0 {
			err = fmt.Errorf("open: %+v", open)
		}
		return err
	}))
}

// get asks an XRPC query and decodes its answer.
func get(t testing.TB, base, method string, q url.Values, out any) {
	t.Helper()
	resp, err := http.Get(base + "/xrpc/" + method + "?" + q.Encode())
	must(t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", method, resp.StatusCode, raw)
	}
	must(t, json.Unmarshal(raw, out))
}

type anyRecord struct {
	URI   string
	CID   string
	Value map[string]any
}

// records lists a collection at the PDS by its own API.
func (w *world) records(name, collection string) []anyRecord {
	w.t.Helper()
	var all []anyRecord
	cursor := ""
	for {
		var page struct {
			Cursor  string
			Records []anyRecord
		}
		q := url.Values{"repo": {w.accounts[name].did}, "collection": {collection}, "limit": {"100"}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		get(w.t, w.pdsDirect(), "com.atproto.repo.listRecords", q, &page)
		all = append(all, page.Records...)
		if cursor = page.Cursor; cursor == "" || len(page.Records) == 0 {
			return all
		}
	}
}

// layerRecords counts the hold's layer records by manifest and digest.
func (w *world) layerRecords() map[string]int {
	w.t.Helper()
	out := map[string]int{}
	cursor := ""
	for {
		var page struct {
			Cursor  string
			Records []anyRecord
		}
		q := url.Values{"repo": {w.holdServer.DID()}, "collection": {"io.atcr.hold.layer"}, "limit": {"100"}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		get(w.t, w.holdDirect(), "com.atproto.repo.listRecords", q, &page)
		for _, r := range page.Records {
			out[fmt.Sprint(r.Value["manifest"], " ", r.Value["digest"])]++
		}
		if cursor = page.Cursor; cursor == "" || len(page.Records) == 0 {
			return out
		}
	}
}

func (w *world) pdsDirect() string  { return w.pdsProxy.URL }
func (w *world) holdDirect() string { return w.holdProxy.URL }

// write writes records by the account's own hand.
func (w *world) write(name, method string, in map[string]any) {
	w.t.Helper()
	must(w.t, w.tryWrite(name, method, in))
}

func (w *world) tryWrite(name, method string, in map[string]any) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "/xrpc/"+method, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.sessions.Do(w.t.Context(), name, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", method, resp.StatusCode, body)
	}
	return err
}

func collectTags(ctx context.Context, r registry.Repository) ([]string, error) {
	var out []string
	for tag, err := range r.Tags(ctx, "") {
		if err != nil {
			return out, err
		}
		out = append(out, tag)
	}
	return out, nil
}

func contains(s, part string) bool { return strings.Contains(s, part) }

func wantKind(t testing.TB, err error, kind *registry.Error) *registry.Error {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("got %v, want %s", err, kind.Code)
	}
	var e *registry.Error
	errors.As(err, &e)
	return e
}

// check asserts the invariants: every manifest record's layers are known to the hold exactly once and nothing more is, and
// every tag resolves to a manifest that pulls.
func (w *world) check(name, repository string) {
	w.t.Helper()
	want := map[string]int{}
	for _, r := range w.records(name, "io.atcr.manifest") {
		for _, k := range []string{"config", "layers"} {
			list, ok := r.Value[k].([]any)
			if !ok && r.Value[k] != nil {
				list = []any{r.Value[k]}
			}
			for _, l := range list {
				want[fmt.Sprint(r.URI, " ", l.(map[string]any)["digest"])] = 1
			}
		}
	}
	got := w.layerRecords()
	for k, n := range got {
		if want[k] != n {
			w.t.Errorf("hold has %d layer records of %s, want %d", n, k, want[k])
		}
	}
	for k := range want {
		if got[k] == 0 {
			w.t.Errorf("hold has no layer record of %s", k)
		}
	}
	r := w.repo("", name, repository)
	tags, err := collectTags(w.t.Context(), r)
	if err != nil && !errors.Is(err, registry.ErrNameUnknown) {
		w.t.Fatal(err)
	}
	for _, tag := range tags {
		if _, err := r.Manifest(w.t.Context(), registry.Ref{Tag: tag}); err != nil {
			w.t.Errorf("tag %s: %v", tag, err)
		}
	}
	var fromPDS []string
	for _, rec := range w.records(name, "io.atcr.tag") {
		if rec.Value["repository"] == repository {
			fromPDS = append(fromPDS, fmt.Sprint(rec.Value["tag"]))
		}
	}
	if len(fromPDS) != len(tags) {
		w.t.Errorf("tags: PDS has %s, we answer %s", strings.Join(fromPDS, " "), strings.Join(tags, " "))
	}
}

// referencePDS starts the reference PDS and directory; devnetPDS our small ones, which start in no time. What passes on one
// has to pass on the other: see TestReference.
func referencePDS(w *world) {
	n := realtest.Network(w.t, realtest.NetworkOptions{Proxied: true})
	w.plc, w.pdsProxy, w.pdsTarget = n.PLC, n.Proxy[0], n.PDSLocal[0]
	for _, name := range []string{"alice", "bob"} {
		a := n.Account(name)
		w.accounts[name] = account{a.Handle, a.DID, a.Password}
	}
}

func devnetPDS(w *world) {
	ctx := context.Background()
	plc, err := devnet.OpenDirectory(ctx, "", nil)
	must(w.t, err)
	plcServer := httptest.NewServer(plc)
	w.pdsProxy = realtest.NewFaultProxy(w.t, "")
	if w.users == nil {
		w.users = []string{"alice", "bob"}
	}
	var accounts []devnet.NewAccount
	for _, name := range w.users {
		accounts = append(accounts, devnet.NewAccount{Handle: name + ".test"})
	}
	server, err := devnet.OpenPDS(ctx, plc, devnet.PDSConfig{Dir: w.t.TempDir(), PublicURL: w.pdsProxy.URL, Accounts: accounts})
	must(w.t, err)
	pdsServer := httptest.NewServer(server)
	w.pdsTarget = pdsServer.URL
	w.pdsProxy.SetTarget(w.pdsTarget)
	w.t.Cleanup(func() {
		pdsServer.Close()
		server.Close()
		plcServer.Close()
		plc.Close()
	})
	w.plc = plcServer.URL
	for _, a := range server.Accounts() {
		w.accounts[strings.TrimSuffix(a.Handle, ".test")] = account{a.Handle, a.DID, a.Password}
	}
}

// TestReference runs what the tests beside it run on our small PDS against the reference PDS.
func TestReference(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T, func(*world)){
		"PushPull": testPushPull, "ForeignRecords": testForeignRecords, "Repush": testRepush, "ManyTags": testManyTags, "Crashes": testCrashes,
		"Proofs": testProofs, "LyingPDS": testLyingPDS,
	} {
		t.Run(name, func(t *testing.T) { test(t, referencePDS) })
	}
}
