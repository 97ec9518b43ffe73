package plc_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// plcNet is the real directory behind a proxy that fails.
type plcNet struct {
	*realtest.Net
	proxy *realtest.FaultProxy
}

// TestPLC runs all that needs the real directory, on one network.
func TestPLC(t *testing.T) {
	n := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	for _, c := range []struct {
		name string
		run  func(*testing.T, *plcNet)
	}{
		{"life", testPLCLife}, {"directory down", testPLCDirectoryDown}, {"faults", testPLCFaults}, {"foreign logs", testPLCForeignLogs},
		{"lost race", testPLCLostRace}, {"without rotation key", testPLCWithoutRotationKey},
		{"kill", testPLCKill}, {"limits", testPLCLimits}, {"adopted", testPLCAdopted}, {"undone", testPLCUndone}, {"recovery key",
			testPLCRecoveryKey},
		{"behind the back", testPLCBehindTheBack}, {"dry runs posted", testPLCDryRunsPosted}, {"signed elsewhere", testPLCSignedElsewhere},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.run(t, &plcNet{n, realtest.NewFaultProxy(t, n.PLC)})
		})
	}
}

// log asks the directory itself.
func (n *plcNet) log(t *testing.T, did syntax.DID) *plc.Log {
	t.Helper()
	c := didplc.Client{DirectoryURL: n.PLC}
	entries, err := c.AuditLog(t.Context(), did.String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	log, err := plc.ParseLog(did, b)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

func (n *plcNet) config(dir string) identity.Config {
	return identity.Config{
		Dir: dir, PublicURL: "https://hold.example.com", Method: "plc", PLCURL: n.proxy.URL,
		Services: identity.HoldServices(), TestMode: true,
	}
}

// boot is a start.
func boot(t *testing.T, cfg identity.Config) (*identity.Identity, *identity.PLCStatus, error) {
	t.Helper()
	return bootIn(t.Context(), t, cfg)
}

func bootIn(ctx context.Context, t *testing.T, cfg identity.Config) (*identity.Identity, *identity.PLCStatus, error) {
	t.Helper()
	id, err := identity.LoadOrCreateDID(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := identity.EnsurePLCCurrent(ctx, id, cfg)
	return id, s, err
}

func mustBoot(t *testing.T, cfg identity.Config) (*identity.Identity, *identity.PLCStatus) {
	t.Helper()
	id, s, err := boot(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return id, s
}

func manage(t *testing.T, id *identity.Identity, cfg identity.Config) *plc.Manager {
	t.Helper()
	m, err := plc.NewManager(id, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// rotate returns the identity afterwards.
func rotate(t *testing.T, id *identity.Identity, cfg identity.Config, o plc.RotateOptions) (*identity.Identity, *plc.Plan) {
	t.Helper()
	m := manage(t, id, cfg)
	p, err := m.Rotate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return m.Identity(), p
}

func didKey(t *testing.T, k atcrypto.PrivateKey) string {
	t.Helper()
	pub, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pub.DIDKey()
}

// head is the newest operation at the directory.
func (n *plcNet) head(t *testing.T, did syntax.DID) didplc.RegularOp {
	t.Helper()
	op := n.log(t, did).Head().Operation.Regular
	if op == nil {
		t.Fatalf("the newest operation of %s is no plain one", did)
	}
	return *op
}

// otherTool changes the DID by hand, as plcli would.
func (n *plcNet) otherTool(t *testing.T, id *identity.Identity, alter func(*didplc.RegularOp)) {
	t.Helper()
	head := n.log(t, id.DID).Head()
	op := *head.Operation.Regular
	alter(&op)
	op.Prev = &head.CID
	if err := op.Sign(id.Rotation); err != nil {
		t.Fatal(err)
	}
	c := didplc.Client{DirectoryURL: n.PLC}
	if err := c.Submit(t.Context(), id.DID.String(), &op); err != nil {
		t.Fatal(err)
	}
}

// testPLCLife is a did:plc from nothing: made, started again, moved, changed by others, its keys rotated.
func testPLCLife(t *testing.T, n *plcNet) {
	cfg := n.config(t.TempDir())
	id, _ := mustBoot(t, cfg)
	if id.DID.Method() != "plc" {
		t.Fatal(id.DID)
	}
	op := n.head(t, id.DID)
	if op.VerificationMethods["atproto"] != didKey(t, id.Key) || !slices.Equal(op.RotationKeys, []string{didKey(t, id.Rotation)}) ||
		!slices.Equal(op.AlsoKnownAs, []string{"at://hold.example.com"}) ||
		op.Services["atproto_pds"] != (didplc.OpService{Type: "AtprotoPersonalDataServer", Endpoint: cfg.PublicURL}) ||
		op.Services["atcr_hold"] != (didplc.OpService{Type: "AtcrHoldService", Endpoint: cfg.PublicURL}) || len(op.Services) != 2 {
		t.Fatalf("the genesis: %+v", op)
	}

	again, s := mustBoot(t, cfg)
	if again.DID != id.DID || !again.Key.Equal(id.Key) || s.Updated || len(s.Drift) != 0 || len(s.Log.Entries) != 1 {
		t.Fatalf("the second start: %s, %+v", again.DID, s)
	}
	n.proxy.Requests()

	foreign, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	n.otherTool(t, id, func(op *didplc.RegularOp) {
		op.RotationKeys = []string{op.RotationKeys[0], didKey(t, foreign)}
		op.Services["elsewhere"] = didplc.OpService{Type: "Elsewhere", Endpoint: "https://elsewhere.example.com"}
		op.AlsoKnownAs = []string{"https://blog.example.com", op.AlsoKnownAs[0], "at://other.example.com"}
		op.VerificationMethods["label"] = didKey(t, foreign)
	})
	cfg.PublicURL = "https://moved.example.org"
	if _, s = mustBoot(t, cfg); !s.Updated || len(s.Log.Entries) != 3 {
		t.Fatalf("after the move: %+v", s)
	}
	op = n.head(t, id.DID)
	if !slices.Equal(op.RotationKeys, []string{didKey(t, id.Rotation), didKey(t, foreign)}) ||
		!slices.Equal(op.AlsoKnownAs, []string{"https://blog.example.com", "at://moved.example.org", "at://other.example.com"}) ||
		op.Services["elsewhere"].Endpoint != "https://elsewhere.example.com" || op.VerificationMethods["label"] != didKey(t, foreign) ||
		op.Services["atcr_hold"].Endpoint != cfg.PublicURL || op.Services["atproto_pds"].Endpoint != cfg.PublicURL {
		t.Fatalf("after the move: %+v", op)
	}
	if _, s = mustBoot(t, cfg); s.Updated || len(s.Log.Entries) != 3 {
		t.Fatalf("one more start made an operation: %+v", s)
	}

	for _, dry := range []bool{true, false} {
		fresh, c := rotate(t, id, cfg, plc.RotateOptions{Type: "p256", DryRun: dry})
		if len(c.Changes) != 1 || c.Submitted == dry || dry != (fresh == id) {
			t.Fatalf("dry run %v: %+v", dry, c)
		}
		if !dry {
			if again, s = mustBoot(t, cfg); !again.Key.Equal(fresh.Key) || again.Key.Equal(id.Key) || s.Updated {
				t.Fatalf("after the rotation: %+v", s)
			}
		}
	}
	fresh, _ := rotate(t, again, cfg, plc.RotateOptions{Key: plc.RotationKey})
	if op = n.head(t, id.DID); !slices.Equal(op.RotationKeys, []string{didKey(t, fresh.Rotation), didKey(t, foreign)}) {
		t.Errorf("rotation keys: %v", op.RotationKeys)
	}
	if again, s = mustBoot(t, cfg); !s.MayUpdate || !again.Rotation.Equal(fresh.Rotation) {
		t.Errorf("after the rotation of the rotation key: %+v", s)
	}
	resolver := identity.NewResolver(identity.ResolverOptions{PLCURL: n.PLC, TestMode: true})
	who, err := resolver.DIDs().LookupDID(t.Context(), id.DID)
	if err != nil {
		t.Fatal(err)
	}
	if pub, err := who.PublicKey(); err != nil || pub.DIDKey() != didKey(t, again.Key) || who.PDSEndpoint() != cfg.PublicURL {
		t.Errorf("resolved: %+v, %v", who, err)
	}
}

// testPLCDirectoryDown: a hold is made and started while the directory is down, and registered when it is back.
func testPLCDirectoryDown(t *testing.T, n *plcNet) {
	cfg := n.config(t.TempDir())
	n.proxy.SetTarget("http://127.0.0.1:1")
	id, _, err := boot(t, cfg)
	if !errors.Is(err, identity.ErrPLCUnavailable) {
		t.Fatal(err)
	}
	cfg.PublicURL = "https://moved.example.org"
	if again, _, err := boot(t, cfg); again.DID != id.DID || !errors.Is(err, identity.ErrPLCUnavailable) {
		t.Fatal(again.DID, err)
	}
	n.proxy.SetTarget(n.PLC)
	if s, err := identity.EnsurePLCCurrent(t.Context(), id, cfg); err != nil || s.Updated {
		t.Fatal(s, err)
	}
	if _, s := mustBoot(t, cfg); !s.Updated || len(s.Log.Entries) != 2 {
		t.Fatalf("%+v", s)
	}
}

// testPLCFaults: each failure of the directory while an update is under way leaves one update in the end.
func testPLCFaults(t *testing.T, n *plcNet) {
	for name, f := range map[string]realtest.Fault{
		"500":           {Kind: realtest.Fail, Method: "POST"},
		"500 but done":  {Kind: realtest.FailDone, Method: "POST"},
		"answer lost":   {Kind: realtest.DropDone, Method: "POST"},
		"request lost":  {Kind: realtest.Drop, Method: "POST"},
		"429":           {Kind: realtest.Fail, Method: "POST", Status: 429},
		"log 503":       {Kind: realtest.Fail, Path: "/log/audit", Status: 503},
		"log cut":       {Kind: realtest.CutResponse, Path: "/log/audit", After: 100},
		"second log":    {Kind: realtest.Drop, Path: "/log/audit", Nth: 2},
		"log is a page": {Kind: realtest.Fail, Path: "/log/audit", Status: 200, Body: "<html>"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := n.config(t.TempDir())
			mustBoot(t, cfg)
			moved := cfg
			moved.PublicURL = "https://moved.example.org"
			id, err := identity.LoadOrCreateDID(t.Context(), moved)
			if err != nil {
				t.Fatal(err)
			}
			fired := n.proxy.Inject(f)
			_, err = identity.EnsurePLCCurrent(t.Context(), id, moved)
			t.Log(err)
			if fired.Fired() != 1 {
				t.Fatalf("the fault fired %d times", fired.Fired())
			}
			if _, err := identity.EnsurePLCCurrent(t.Context(), id, moved); err != nil {
				t.Fatal(err)
			}
			if l := n.log(t, id.DID); len(l.Entries) != 2 || l.Head().Operation.Regular.Services["atcr_hold"].Endpoint != moved.PublicURL {
				t.Errorf("%d operations", len(l.Entries))
			}
			n.proxy.Clear()
		})
	}
}

// testPLCForeignLogs: what is not this DID's log, or no longer goes on from what we saw, is refused, and nothing is submitted.
func testPLCForeignLogs(t *testing.T, n *plcNet) {
	cfg := n.config(t.TempDir())
	id, _ := mustBoot(t, cfg)
	other, _ := mustBoot(t, n.config(t.TempDir()))
	n.otherTool(t, id, func(op *didplc.RegularOp) { op.AlsoKnownAs = append(op.AlsoKnownAs, "at://x.example.com") })
	mustBoot(t, cfg)
	body := func(did syntax.DID, alter func([]didplc.LogEntry) []didplc.LogEntry) string {
		b, err := json.Marshal(alter(slices.Clone(n.log(t, did).Entries)))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	// A fork: another second operation after the same genesis, validly signed.
	fork := n.log(t, id.DID).Entries[1]
	forked := *fork.Operation.Regular
	forked.AlsoKnownAs = []string{"at://forked.example.com"}
	if err := forked.Sign(id.Rotation); err != nil {
		t.Fatal(err)
	}
	as := func(e []didplc.LogEntry) []didplc.LogEntry { return e }
	for name, c := range map[string]struct{ body, want string }{
		"another DID's": {body(other.DID, as), "shows that of " + other.DID.String()},
		"another DID's with ours written over it": {body(other.DID,
			func(e []didplc.LogEntry) []didplc.LogEntry { e[0].DID = id.DID.String(); return e }), "genesis DID does not match"},
		"a fork": {body(id.DID, func(e []didplc.LogEntry) []didplc.LogEntry {
			e[1].Operation = didplc.OpEnum{Regular: &forked}
			e[1].CID = forked.CID().String()
			return e
		}), "forked"},
		"cut":       {body(id.DID, func(e []didplc.LogEntry) []didplc.LogEntry { return e[:1] }), "shows 1 operations, before it showed 2"},
		"CID lies":  {body(id.DID, func(e []didplc.LogEntry) []didplc.LogEntry { e[1].CID = e[0].CID; return e }), "CID"},
		"nullified": {body(id.DID, func(e []didplc.LogEntry) []didplc.LogEntry { e[1].Nullified = true; return e }), "nullification"},
		"unsigned": {body(id.DID, func(e []didplc.LogEntry) []didplc.LogEntry {
			op := *e[1].Operation.Regular
			op.Services = map[string]didplc.OpService{"atcr_hold": {Type: "x", Endpoint: "https://evil.example.com"}}
			e[1].Operation.Regular = &op
			e[1].CID = op.CID().String()
			return e
		}), "signature"},
		"empty":             {"[]", "empty"},
		"no operation":      {`[{"did":"` + id.DID.String() + `"}]`, "without an operation"},
		"null":              {`[{"did":"` + id.DID.String() + `","operation":null}]`, "PLC log refused"},
		"longer than 4 MiB": {"[" + strings.Repeat(" ", plc.MaxLog) + "]", "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			moved := cfg
			moved.PublicURL = "https://moved.example.org"
			id, err := identity.LoadOrCreateDID(t.Context(), moved)
			if err != nil {
				t.Fatal(err)
			}
			fired := n.proxy.Inject(realtest.Fault{Kind: realtest.Fail, Path: "/log/audit", Status: 200, Body: c.body})
			n.proxy.Requests()
			_, err = identity.EnsurePLCCurrent(t.Context(), id, moved)
			if !errors.Is(err, identity.ErrPLCLog) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if fired.Fired() != 1 {
				t.Error("the fault did not fire")
			}
			for _, r := range n.proxy.Requests() {
				if strings.HasPrefix(r, "POST") {
					t.Errorf("after a log that is refused: %s", r)
				}
			}
			n.proxy.Clear()
		})
	}
}

// testPLCLostRace: somebody else updates between our reading and our operation; both changes stand in the end.
func testPLCLostRace(t *testing.T, n *plcNet) {
	cfg := n.config(t.TempDir())
	id, _ := mustBoot(t, cfg)
	cfg.PublicURL = "https://moved.example.org"
	raced := 0
	var text strings.Builder
	cfg.Log = slog.New(slog.NewTextHandler(&text, nil))
	ctx := crashpoint.With(t.Context(), func(point string) error {
		if point == crashpoint.UpdateSigned && raced < 2 {
			if raced++; !strings.Contains(text.String(), "AtcrHoldService at https://hold.example.com -> AtcrHoldService at https://moved.example.org") {
				t.Errorf("the difference is not told before the update:\n%s", &text)
			}
			n.otherTool(t, id, func(op *didplc.RegularOp) {
				op.AlsoKnownAs = append(op.AlsoKnownAs, "at://racer"+string('0'+rune(raced))+".example.com")
			})
		}
		return nil
	})
	_, s, err := bootIn(ctx, t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	op := n.head(t, id.DID)
	if raced != 2 || !s.Updated || len(s.Log.Entries) != 4 || op.Services["atcr_hold"].Endpoint != cfg.PublicURL ||
		!slices.Equal(op.AlsoKnownAs, []string{"at://moved.example.org", "at://racer1.example.com", "at://racer2.example.com"}) {
		t.Errorf("raced %d times: %+v", raced, op)
	}
	cfg.PublicURL = "https://third.example.org"
	ctx = crashpoint.With(t.Context(), func(point string) error {
		if point == crashpoint.UpdateSigned {
			n.otherTool(t, id, func(op *didplc.RegularOp) {
				op.AlsoKnownAs = append(op.AlsoKnownAs, "at://again"+string('0'+rune(len(op.AlsoKnownAs)))+".example.com")
			})
		}
		return nil
	})
	if _, _, err := bootIn(ctx, t, cfg); !errors.Is(err, identity.ErrPLCRace) {
		t.Errorf("a race lost for ever: %v", err)
	}
}

// testPLCWithoutRotationKey: the difference is warned of and named; nothing is submitted, and the service goes on.
func testPLCWithoutRotationKey(t *testing.T, n *plcNet) {
	cfg := n.config(t.TempDir())
	id, _ := mustBoot(t, cfg)
	rotation := filepath.Join(cfg.Dir, "keys", "rotation.key")
	secret, err := os.ReadFile(rotation)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(rotation); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	cfg.Log = slog.New(slog.NewTextHandler(&text, nil))
	cfg.PublicURL = "https://moved.example.org"
	_, s := mustBoot(t, cfg)
	if s.Updated || s.MayUpdate || len(s.Drift) != 3 || !strings.Contains(text.String(), "https://hold.example.com -> ") {
		t.Errorf("%+v\n%s", s, &text)
	}
	stranger, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	foreign := cfg
	foreign.RotationKey = stranger.Multibase()
	if _, s := mustBoot(t, foreign); s.Updated || s.MayUpdate || len(s.Drift) != 3 {
		t.Errorf("a key that is not in the list: %+v", s)
	}
	id.Rotation = stranger
	dry := plc.RotateOptions{DryRun: true}
	if _, err := manage(t, id, cfg).Rotate(t.Context(), dry); !errors.Is(err, identity.ErrNoRotationKey) ||
		!errors.Is(err, identity.ErrPLCRefused) {
		t.Errorf("a rotation by a key that is not in the list: %v", err)
	}
	// The key as a value of the environment, and as a file elsewhere.
	given := cfg
	given.RotationKey = string(secret)
	if _, s := mustBoot(t, given); !s.Updated {
		t.Errorf("%+v", s)
	}
	elsewhere := cfg
	elsewhere.PublicURL, elsewhere.RotationKeyPath = "https://third.example.org", filepath.Join(t.TempDir(), "r.key")
	if err := durable.ReplaceSecret(elsewhere.RotationKeyPath, secret); err != nil {
		t.Fatal(err)
	}
	if _, s := mustBoot(t, elsewhere); !s.Updated {
		t.Errorf("%+v", s)
	}
	if err := os.Chmod(elsewhere.RotationKeyPath, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.LoadOrCreateDID(context.Background(), elsewhere); !errors.Is(err, identity.ErrKeyPermissions) ||
		!strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
}
