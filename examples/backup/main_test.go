package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
)

func TestBackup(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h, err := hold.New(t.Context(), hold.Config{
		Dir: t.TempDir(), PublicURL: "http://" + ln.Addr().String(), TestMode: true, OwnerDID: "did:web:captain.test",
		Log: slog.New(slog.DiscardHandler),
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
	if _, err := backup(t.Context(), dir, http.DefaultClient, h.DID(), file); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := repo.VerifyCAR(t.Context(), repo.Source{Reader: f, DID: h.DID(), AnyKey: true})
	if err != nil || info.Records == 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	if _, err := backup(t.Context(), dir, http.DefaultClient, strings.Replace(h.DID(), "localhost", "127.0.0.2", 1), file+"x"); err == nil {
		t.Error("an account that isn't there is backed up")
	}
}

// A PDS that answers with what the account's key has not signed: no file.
func TestBackupOfALie(t *testing.T) {
	var did string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/did.json" {
			fmt.Fprintf(w, `{"id":%[1]q,"verificationMethod":[{"id":"#atproto","type":"Multikey","controller":%[1]q,`+
				`"publicKeyMultibase":"zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"}],`+
				`"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"http://%[2]s"}]}`, did, r.Host)
			return
		}
		key, err := atcrypto.GeneratePrivateKeyK256()
		if err != nil {
			t.Error(err)
			return
		}
		other, err := repo.Open(r.Context(), memstore.New(), repo.Options{DID: did, Key: key})
		if err != nil {
			t.Error(err)
			return
		}
		defer other.Close()
		if err := repo.ExportCAR(r.Context(), other, w, nil); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	did = "did:web:localhost%3A" + srv.URL[strings.LastIndexByte(srv.URL, ':')+1:]
	file := filepath.Join(t.TempDir(), "x.car")
	_, err := backup(t.Context(), identity.NewResolver(identity.ResolverOptions{TestMode: true}), http.DefaultClient, did, file)
	if !errors.Is(err, repo.ErrInvalidCAR) || !strings.Contains(err.Error(), "signature") {
		t.Error(err)
	}
	if left, _ := filepath.Glob(file + "*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
