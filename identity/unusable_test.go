package identity_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// TestUnusable: what asking again does not mend is told from an outage, in words that name no address of the network.
func TestUnusable(t *testing.T) {
	const did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	answer := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	other := answer(200, `{"id":"did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"}`)
	guarded := httpx.NewClient(httpx.ClientOptions{})
	for name, c := range map[string]struct {
		did   syntax.DID
		plc   string
		test  bool
		http  *http.Client
		never string // "": an outage, or no such DID
		kind  error
	}{
		"another's document":     {did: did, plc: other, test: true, never: "the document's id is", kind: identity.ErrDIDResolutionFailed},
		"no JSON":                {did: did, plc: answer(200, "<html>"), test: true, never: "reading the document", kind: identity.ErrDIDResolutionFailed},
		"too long":               {did: did, plc: answer(200, strings.Repeat(" ", identity.MaxDocument+1)), test: true, never: "longer than", kind: identity.ErrDIDResolutionFailed},
		"a guarded address":      {did: did, plc: other, http: guarded, never: "its address", kind: identity.ErrDIDResolutionFailed},
		"did:web on loopback":    {did: "did:web:localhost%3A1", plc: other, never: "test mode only", kind: identity.ErrDIDResolutionFailed},
		"did:web with a port":    {did: "did:web:hold.example.com%3A8080", plc: other, never: "has a port", kind: identity.ErrDIDResolutionFailed},
		"did:web of an address":  {did: "did:web:10.0.0.1", plc: other, never: "no plain public host name", kind: identity.ErrDIDResolutionFailed},
		"a method of no service": {did: "did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF", plc: other, never: "DID method", kind: identity.ErrDIDResolutionFailed},
		"no such DID":            {did: did, plc: answer(404, ""), test: true, kind: identity.ErrDIDNotFound},
		"a tombstone":            {did: did, plc: answer(410, ""), test: true, kind: identity.ErrDIDNotFound},
		"500":                    {did: did, plc: answer(500, ""), test: true, kind: identity.ErrDIDResolutionFailed},
		"429":                    {did: did, plc: answer(429, ""), test: true, kind: identity.ErrDIDResolutionFailed},
		"nobody there":           {did: did, plc: "http://127.0.0.1:1", test: true, kind: identity.ErrDIDResolutionFailed},
	} {
		r := identity.NewResolver(identity.ResolverOptions{PLCURL: c.plc, TestMode: c.test, HTTP: c.http})
		_, err := r.LookupDID(t.Context(), c.did)
		why, never := identity.Unusable(err)
		if !errors.Is(err, c.kind) || never != (c.never != "") || !strings.Contains(why, c.never) {
			t.Errorf("%s: %q, %v of %v", name, why, never, err)
		}
		if strings.Contains(why, "127.0.0.1") {
			t.Errorf("%s: %q names an address", name, why)
		}
	}
	if _, never := identity.Unusable(nil); never {
		t.Error("no error is never usable")
	}
}
