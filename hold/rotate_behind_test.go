package hold_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
)

// TestPromotedBehind: a signing key that somebody else rotated behind the running hold's back is taken over; while the
// directory can't tell which key is right, the old one does not go back into it.
func TestPromotedBehind(t *testing.T) {
	real := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	proxy := realtest.NewFaultProxy(t, real.PLC)
	h := newPLCHold(t, proxy.URL, real.Account("alice").DID)
	h.start()
	cfg := dataDir(t, h.cfg).Identity
	id, err := identity.Load(cfg)
	must(t, err)
	old, err := id.Key.PublicKey()
	must(t, err)
	fresh := rotate(t, id, cfg, plc.RotateOptions{})
	pub, err := fresh.Key.PublicKey()
	must(t, err)
	lost := proxy.Inject(realtest.Fault{Kind: realtest.Drop, Method: http.MethodGet, Path: "/log/audit", Times: 2}) // the client asks twice
	if err := h.server.CheckIdentity(t.Context()); !errors.Is(err, identity.ErrPLCUnavailable) || lost.Fired() == 0 {
		t.Errorf("the directory was asked %d times: %v", lost.Fired(), err)
	}
	must(t, h.server.CheckIdentity(t.Context()))
	must(t, h.server.CheckIdentity(t.Context()))
	h.stop()
	entries, err := (&didplc.Client{DirectoryURL: real.PLC}).AuditLog(t.Context(), id.DID.String())
	must(t, err)
	if len(entries) != 2 || !signingKey(t, real.PLC, id.DID.String()).Equal(pub) {
		t.Errorf("%d operations", len(entries))
	}
	if signed := checkLog(t, storedEvents(t, h.cfg), []atcrypto.PublicKey{old, pub}); signed[1] != 1 {
		t.Errorf("commits by each key: %v", signed)
	}
}

// TestRotateBeforeRegistered: a rotation that is asked for before the directory has heard of the hold waits for that, and no longer.
func TestRotateBeforeRegistered(t *testing.T) {
	real := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	proxy := realtest.NewFaultProxy(t, real.PLC)
	proxy.SetTarget("http://127.0.0.1:1")
	h := newPLCHold(t, proxy.URL, real.Account("alice").DID)
	h.start()
	cfg := dataDir(t, h.cfg).Identity
	asked := request(t, cfg, plc.RotateOptions{})
	proxy.SetTarget(real.PLC)
	if err := h.server.CheckIdentity(t.Context()); !errors.Is(err, identity.ErrPLCNotFound) {
		t.Errorf("not registered: %v", err)
	}
	must(t, h.server.CheckIdentity(t.Context()))
	if !signingKey(t, real.PLC, h.server.DID()).Equal(asked) {
		t.Error("the directory names another key")
	}
}

// TestGivenRepoGetsTheKey: a repository that was opened with the key from before a rotation signs with the new one.
func TestGivenRepoGetsTheKey(t *testing.T) {
	h := newHold(t, newNetwork(t))
	h.stop()
	cfg := dataDir(t, h.cfg).Identity
	id, err := identity.Load(cfg)
	must(t, err)
	r, err := repo.Open(t.Context(), memstore.New(), repo.Options{DID: h.DID(), Key: id.Key, Log: h.cfg.Log})
	must(t, err)
	defer r.Close()
	asked := request(t, cfg, plc.RotateOptions{})
	h.cfg.Repo = r
	s, err := hold.New(t.Context(), h.cfg)
	must(t, err)
	signed, err := r.Signed(t.Context())
	must(t, err)
	if !signed || !r.PublicKey().Equal(asked) {
		t.Errorf("signed %t, by %s, want %s", signed, r.PublicKey().DIDKey(), asked.DIDKey())
	}
	must(t, s.Close())
}
