package holdcli

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/config"
)

const someKey = "did:key:zDnaerx9CtbPJ1q36T5Ln5wYt3MQYeGRG5ehnPAmxcf5mDZpv"

// TestTrust: keys that were named decide alone; how old a set may be follows from how often they are made.
func TestTrust(t *testing.T) {
	t.Parallel()
	cfg := identity.Config{Dir: t.TempDir(), PublicURL: "https://hold.example.com", Services: identity.HoldServices(),
		Log: slog.New(slog.DiscardHandler)}
	dir := datadir.Config{Dir: cfg.Dir, Identity: cfg}
	if did, own := knownIdentity(dir); did != "did:web:hold.example.com" || own != nil {
		t.Errorf("an empty folder: %s, %v", did, own)
	}
	id, err := identity.LoadOrCreateDID(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	did, own := knownIdentity(dir)
	if did != id.DID || own == nil {
		t.Fatalf("a folder with an identity: %s, %v", did, own)
	}
	c := config.DefaultHold()
	f := &TrustFlags{}
	tr, err := f.trust(c, did, own)
	if err != nil || len(tr.Keys) != 1 || tr.Document == nil || tr.DID != did || tr.MaxAge != 0 || tr.Older {
		t.Errorf("%+v, %v", tr, err)
	}
	c.Backup.Every, c.Backup.Trust = time.Hour, []string{someKey}
	tr, err = f.trust(c, did, own)
	if err != nil || !slices.Equal(tr.Keys, []string{someKey}) || tr.Document != nil || tr.MaxAge != 2*time.Hour {
		t.Errorf("backup.trust: %+v, %v", tr, err)
	}
	f = &TrustFlags{Trust: []string{strings.Replace(someKey, "did:key:", "", 1)}, Older: true, Ahead: true, Unsigned: true}
	if tr, err = f.trust(c, did, own); err == nil || !strings.Contains(err.Error(), "--trust") || strings.Contains(err.Error(), "zDna") {
		t.Errorf("what may be a private key: %+v, %v", tr, err)
	}
	if !tr.Older || !tr.Ahead || !tr.Unsigned {
		t.Errorf("%+v", tr)
	}

	// A folder that is restored in part has keys of a set.
	part := dir
	part.Dir = filepath.Join(t.TempDir(), "part")
	if err := os.CopyFS(part.Dir, os.DirFS(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(part.Dir, "restore.json"), []byte(`{"from":"a set"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if begun, err := datadir.RestoreInProgress(part.Dir); err != nil || begun == "" {
		t.Fatalf("%q, %v", begun, err)
	}
	if _, own := knownIdentity(part); own != nil {
		t.Error("the keys of a set vouch for it")
	}
}

// TestDocuments: a did:web is asked as a hold would ask.
func TestDocuments(t *testing.T) {
	t.Parallel()
	cfg := identity.Config{Dir: t.TempDir(), PublicURL: "http://localhost:1", TestMode: true, Services: identity.HoldServices(),
		Log: slog.New(slog.DiscardHandler)}
	srv := httptest.NewUnstartedServer(nil)
	cfg.PublicURL = fmt.Sprintf("http://localhost:%d", srv.Listener.Addr().(*net.TCPAddr).Port)
	id, err := identity.LoadOrCreateDID(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv.Config.Handler = identity.WellKnown(id)
	srv.Start()
	defer srv.Close()
	pub, err := id.Key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	c := config.DefaultHold()
	if keys, err := documents(c)(t.Context(), id.DID, time.Now()); err == nil {
		t.Errorf("loopback outside of test mode: %v", keys)
	}
	c.Server.TestMode = true
	keys, err := documents(c)(t.Context(), id.DID, time.Now())
	if err != nil || len(keys) != 1 || keys[0] != pub.DIDKey() {
		t.Errorf("%v, %v", keys, err)
	}
}

// TestShowClaims: those with rights are shown first, nobody is left out silently, and nothing speaks to a terminal.
func TestShowClaims(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	showClaims(&out, &backup.Claims{
		Manifest: &backup.Manifest{Name: "20260101T000000.000000Z", DID: "did:web:x.test", SigningKey: someKey,
			Format: "atcr-backup-1", Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
		Age: 75 * time.Hour, Crew: []backup.Member{{DID: "did:web:a.test", Permissions: []string{"crew:admin", "blob:write"}}}, Members: 3,
		OtherCaptains: 2,
	})
	for _, want := range []string{"3 days ago", "did:web:x.test", "NOT SIGNED", someKey,
		"captain  none (records of captains that a hold does not read: 2)\n", "crew     3",
		"did:web:a.test  crew:admin blob:write", "and 2 more"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	for d, want := range map[time.Duration]string{-time.Second: "ahead", 90 * time.Minute: "1h30m0s ago", 5 * time.Hour: "5 hours ago",
		47 * time.Hour: "47 hours ago", 48 * time.Hour: "2 days ago"} {
		if got := ago(d); !strings.Contains(got, want) {
			t.Errorf("%s: %s", d, got)
		}
	}
}
