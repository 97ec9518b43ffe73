package main

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/repo"
)

func TestBackup(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h, err := hold.New(t.Context(), hold.Config{
		Dir: t.TempDir(), PublicURL: "http://" + ln.Addr().String(), TestMode: true, OwnerDID: "did:web:captain.test", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close() //nolint:errcheck // the test is over
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h.Handler()}}
	srv.Start()
	defer srv.Close()
	dir := identity.NewResolver(identity.ResolverOptions{TestMode: true})
	file := filepath.Join(t.TempDir(), "hold.car")
	if err := backup(t.Context(), dir, srv.Client(), h.DID(), file); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := repo.VerifyCAR(t.Context(), repo.Source{Reader: f, DID: h.DID()})
	if err != nil || info.Records == 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	if err := backup(t.Context(), dir, srv.Client(), strings.Replace(h.DID(), "localhost", "127.0.0.2", 1), file+"x"); err == nil {
		t.Error("an account that isn't there is backed up")
	}
}
