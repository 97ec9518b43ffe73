package hold_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/backup"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
)

// plcHold is a hold of its own did:plc, stopped and started on one folder and one address.
type plcHold struct {
	t      *testing.T
	cfg    hold.Config
	server *hold.Server
	front  *httptest.Server
	now    atomic.Pointer[http.Handler]
	hook   crashpoint.Hook
}

func newPLCHold(t *testing.T, plc, owner string) *plcHold {
	t.Helper()
	h := &plcHold{t: t}
	h.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := h.now.Load(); p != nil {
			(*p).ServeHTTP(w, r)
			return
		}
		panic(http.ErrAbortHandler)
	}))
	h.cfg = hold.Config{
		Dir: t.TempDir(), PublicURL: strings.Replace(h.front.URL, "127.0.0.1", "localhost",
			1), OwnerDID: owner, AllowAllCrew: true, TestMode: true,
		PLCURL: plc, Identity: identity.Config{Method: "plc"}, Log: slog.New(slog.DiscardHandler),
	}
	t.Cleanup(func() { h.stop(); h.front.Close() })
	return h
}

func (h *plcHold) start() {
	h.t.Helper()
	s, err := hold.New(crashpoint.With(h.t.Context(), h.hook), h.cfg)
	must(h.t, err)
	h.server = s
	handler := s.Handler()
	h.now.Store(&handler)
}

func (h *plcHold) stop() {
	h.now.Store(nil)
	if h.server != nil {
		must(h.t, h.server.Close())
		h.server = nil
	}
}

// TestPLCHold is issue 4's story: from nothing, again, moved, changed by another tool, its signing key rotated offline;
// service tokens of the reference PDS are good throughout, and each commit verifies against the directory's key.
func TestPLCHold(t *testing.T) {
	real := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	proxy := realtest.NewFaultProxy(t, real.PLC)
	h := newPLCHold(t, proxy.URL, real.Account("alice").DID)
	h.start()
	did := syntax.DID(h.server.DID())
	if did.Method() != "plc" {
		t.Fatal(did)
	}
	operations := func() int {
		t.Helper()
		entries, err := (&didplc.Client{DirectoryURL: real.PLC}).AuditLog(t.Context(), did.String())
		must(t, err)
		must(t, didplc.VerifyOpLog(entries))
		return len(entries)
	}
	// works: a hold found through the directory takes the reference PDS's tokens, and its repository is signed by the key there.
	works := func(when string, want int) {
		t.Helper()
		if n := operations(); n != want {
			t.Errorf("%s: %d operations, want %d", when, n, want)
		}
		dir := identity.NewResolver(identity.ResolverOptions{PLCURL: real.PLC, TestMode: true})
		who, err := dir.DIDs().LookupDID(t.Context(), did)
		must(t, err)
		url := who.GetServiceEndpoint("atcr_hold")
		if url != h.cfg.PublicURL || who.PDSEndpoint() != url {
			t.Errorf("%s: the directory says %s and %s", when, url, who.PDSEndpoint())
		}
		for _, aud := range []string{did.String(), did.String() + "#atcr_hold"} {
			c := holdclient.New(holdclient.Options{DID: did.String(), URL: h.front.URL, HasHoldService: true, HTTP: http.DefaultClient,
				Token: func(_ context.Context, _, lxm string) (string, error) {
					return real.ServiceAuth(t, "alice", aud, lxm), nil
				}})
			b := data(7, 1000)
			d := digest.FromBytes(b)
			id, err := c.InitiateUpload(t.Context(), d)
			must(t, err)
			p, err := c.UploadPart(t.Context(), id, 1, int64(len(b)), bytes.NewReader(b))
			must(t, err)
			must(t, c.CompleteUpload(t.Context(), id, d, []holdclient.Part{p}))
		}
		resp, err := http.Get(h.front.URL + "/xrpc/com.atproto.sync.getRecord?did=" + did.String() + "&collection=" + atcr.NSIDCaptain +
			"&rkey=self")
		must(t, err)
		defer resp.Body.Close()
		proof, err := io.ReadAll(resp.Body)
		must(t, err)
		key, err := who.PublicKey()
		must(t, err)
		if _, err := repo.VerifyProof(proof, did.String(), key, atcr.NSIDCaptain, "self"); err != nil {
			t.Errorf("%s: proof of the captain record: %v", when, err)
		}
	}
	works("from nothing", 1)
	h.stop()
	h.start()
	works("again", 1)
	h.stop()

	// Another tool, with a copy of the rotation key.
	cfg := h.cfg.Identity
	cfg.Dir, cfg.PLCURL, cfg.TestMode, cfg.PublicURL, cfg.Services = h.cfg.Dir, real.PLC, true, h.cfg.PublicURL, identity.HoldServices()
	id, err := identity.LoadOrCreateDID(t.Context(), cfg)
	must(t, err)
	entries, err := (&didplc.Client{DirectoryURL: real.PLC}).AuditLog(t.Context(), did.String())
	must(t, err)
	op := *entries[0].Operation.Regular
	op.Prev = &entries[0].CID
	foreign := id.Key // any key will do
	pub, err := foreign.PublicKey()
	must(t, err)
	op.RotationKeys = append(op.RotationKeys, pub.DIDKey())
	op.Services = map[string]didplc.OpService{"elsewhere": {Type: "Elsewhere", Endpoint: "https://elsewhere.example.com"}}
	op.AlsoKnownAs = append(op.AlsoKnownAs, "at://alias.example.com")
	must(t, op.Sign(id.Rotation))
	must(t, (&didplc.Client{DirectoryURL: real.PLC}).Submit(t.Context(), did.String(), &op))
	h.start()
	works("changed by another tool", 3)
	h.stop()

	h.cfg.PublicURL = strings.Replace(h.front.URL, "127.0.0.1", "[::1]", 1)
	h.start()
	if n := operations(); n != 4 {
		t.Errorf("moved: %d operations", n)
	}
	h.stop()
	h.cfg.PublicURL = cfg.PublicURL
	h.start()
	works("moved back", 5)
	h.stop()
	after, err := (&didplc.Client{DirectoryURL: real.PLC}).AuditLog(t.Context(), did.String())
	must(t, err)
	if last := after[4].Operation.Regular; len(last.RotationKeys) != 2 || last.RotationKeys[1] != pub.DIDKey() ||
		last.Services["elsewhere"] != op.Services["elsewhere"] || last.AlsoKnownAs[0] != "at://alias.example.com" {
		t.Errorf("what another tool set is lost: %+v", last)
	}

	lock, err := durable.LockDir(h.cfg.Dir)
	must(t, err)
	fresh := rotate(t, id, cfg, plc.RotateOptions{Type: "p256"})
	must(t, lock.Close())
	if fresh.Key.Equal(id.Key) {
		t.Error("the key is the same")
	}
	h.start()
	works("rotated", 6)
	h.stop()
	h.start()
	works("started after the rotation", 6)
	h.stop()

	// What followers of the repository are told: the identity, and then a commit by the new key; once.
	kinds := h.events()
	want := "#commit #account #commit #identity #identity #identity #identity #commit"
	if got := strings.Join(kinds, " "); !strings.HasPrefix(got, want) || strings.Count(got, "#identity") != 4 {
		t.Errorf("events %s, want %s", got, want)
	}

	// So they are, too, when it is rotated and announced while the hold is stopped; the start has nothing to add.
	lock, err = durable.LockDir(h.cfg.Dir)
	must(t, err)
	fresh = rotate(t, fresh, cfg, plc.RotateOptions{})
	must(t, datadir.AnnounceIdentity(t.Context(), dataDir(t, h.cfg), fresh))
	must(t, lock.Close())
	offline := h.events()
	if got := strings.Join(offline[len(kinds):], " "); got != "#identity #commit" {
		t.Errorf("announced while stopped: %s", got)
	}
	h.start()
	works("rotated and announced while stopped", 7)
	h.stop()
	if got := h.events()[len(offline):]; slices.Contains(got, "#identity") {
		t.Errorf("the start announced it again: %s", got)
	}
}

// events are the kinds of the stopped hold's events, oldest first.
func (h *plcHold) events() (kinds []string) {
	h.t.Helper()
	store, err := sqlstore.Open(h.t.Context(), h.cfg.Dir+"/repo.db")
	must(h.t, err)
	defer store.Close()
	for e, err := range store.Read(h.t.Context()).Events(0, 0) {
		must(h.t, err)
		kinds = append(kinds, kindOf(e.Body))
	}
	return kinds
}

// kindOf a frame: its header is {t: "#kind", op: 1}.
func kindOf(frame []byte) string {
	for _, k := range []string{"#commit", "#identity", "#sync", "#account"} {
		if bytes.Contains(frame[:min(len(frame), 20)], []byte(k)) {
			return k
		}
	}
	return "?"
}

// TestPLCHoldDirectoryDown: a hold starts, from nothing and again, while the directory is down or slow, and is registered
// by Run when it answers.
func TestPLCHoldDirectoryDown(t *testing.T) {
	real := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	proxy := realtest.NewFaultProxy(t, "http://127.0.0.1:1")
	h := newPLCHold(t, proxy.URL, real.Account("alice").DID)
	h.start()
	did := h.server.DID()
	h.stop()
	h.start()
	if h.server.DID() != did {
		t.Fatalf("two DIDs: %s, %s", did, h.server.DID())
	}
	if err := h.server.CheckIdentity(t.Context()); !errors.Is(err, identity.ErrPLCUnavailable) {
		t.Fatal(err)
	}
	slow := proxy.Inject(realtest.Fault{Kind: realtest.Delay, Path: "/log/audit", Wait: 300 * time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.server.Run(ctx) }()
	proxy.SetTarget(real.PLC)
	deadline := time.Now().Add(time.Minute)
	for {
		entries, err := (&didplc.Client{DirectoryURL: real.PLC}).AuditLog(ctx, did)
		if err == nil && len(entries) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not registered: %d, %v", len(entries), err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	must(t, <-done)
	if slow.Fired() != 1 {
		t.Error("the directory was not slow")
	}
}

// TestPLCHoldMachineLost: an export of the identity and a copy of the database folder, on an empty machine, are the same hold.
func TestPLCHoldMachineLost(t *testing.T) {
	real := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	h := newPLCHold(t, real.PLC, real.Account("alice").DID)
	h.start()
	did := h.server.DID()
	h.stop()
	cfg := dataDir(t, h.cfg).Identity
	key, err := age.GenerateX25519Identity()
	must(t, err)
	var file bytes.Buffer
	must(t, backup.Export(&file, cfg, key.Recipient()))

	lost := h.cfg.Dir
	h.cfg.Dir = t.TempDir()
	for _, name := range []string{"repo.db", "hold.db"} {
		b, err := os.ReadFile(filepath.Join(lost, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(h.cfg.Dir, name), b, 0o600))
	}
	must(t, os.RemoveAll(lost))
	cfg.Dir = h.cfg.Dir
	cfg.KeyPath, cfg.RotationKeyPath = "", ""
	if got, err := backup.Import(&file, cfg, key); err != nil || got.String() != did {
		t.Fatal(got, err)
	}
	h.start()
	if h.server.DID() != did {
		t.Fatalf("%s, before %s", h.server.DID(), did)
	}
	who, err := identity.NewResolver(identity.ResolverOptions{PLCURL: real.PLC, TestMode: true}).DIDs().LookupDID(t.Context(), syntax.DID(did))
	must(t, err)
	pub, err := who.PublicKey()
	must(t, err)
	resp, err := http.Get(h.front.URL + "/xrpc/com.atproto.sync.getRecord?did=" + did + "&collection=" + atcr.NSIDCaptain + "&rkey=self")
	must(t, err)
	defer resp.Body.Close()
	proof, err := io.ReadAll(resp.Body)
	must(t, err)
	if _, err := repo.VerifyProof(proof, did, pub, atcr.NSIDCaptain, "self"); err != nil {
		t.Error(err)
	}
	if entries, err := (&didplc.Client{DirectoryURL: real.PLC}).AuditLog(t.Context(), did); err != nil || len(entries) != 1 {
		t.Errorf("%d operations, %v", len(entries), err)
	}
}
