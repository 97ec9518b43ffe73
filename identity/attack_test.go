package identity

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/internal/httpx"
)

// A directory that sends a byte now and then is given up on, and an answer from before serves meanwhile.
func TestTrickledDocument(t *testing.T) {
	n := newNetwork(t)
	n.docs[aliceDID.String()] = document(t, aliceDID, "")
	r := n.resolver(func(o *ResolverOptions) { o.HTTP.Timeout = 0 })
	r.docs.patience, r.docs.staleWait = 300*time.Millisecond, 10*time.Second
	trickled := make(chan struct{}, 8)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		for {
			if _, err := w.Write([]byte(" ")); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-req.Context().Done():
				trickled <- struct{}{}
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}))
	defer slow.Close()
	if _, err := r.LookupDID(t.Context(), aliceDID); err != nil {
		t.Fatal(err)
	}
	r.opts.PLCURL = slow.URL
	if _, err := r.LookupDID(t.Context(), bobDID); !errors.Is(err, ErrDIDResolutionFailed) {
		t.Errorf("never known: %v", err)
	}
	n.set(func() { n.now = n.now.Add(time.Hour) })
	if _, err := r.LookupDID(t.Context(), aliceDID); err != nil {
		t.Errorf("known before: %v", err)
	}
	for range 2 {
		select {
		case <-trickled:
		case <-time.After(10 * time.Second):
			t.Fatal("a trickling answer was not let go of")
		}
	}
}

// Redirects of a host that may be asked lead to no private address: neither for a document nor for a handle.
func TestRedirectedToPrivateAddress(t *testing.T) {
	arrived := make(chan string, 10)
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { arrived <- r.URL.Path }))
	defer inner.Close()
	sent := 0
	outer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent++
		http.Redirect(w, r, inner.URL+"/latest/meta-data", http.StatusFound)
	}))
	defer outer.Close()
	named := strings.Replace(outer.URL, "127.0.0.1", "localhost", 1) // may be asked; 127.0.0.1 may not
	client := httpx.NewClient(httpx.ClientOptions{Guard: httpx.Guard{Hosts: []string{"localhost"}}})
	defer client.CloseIdleConnections()
	n := newNetwork(t)
	r := NewResolver(ResolverOptions{HTTP: client, PLCURL: named, HandleResolverURL: named, DNS: n})
	if _, err := r.LookupDID(t.Context(), aliceDID); !errors.Is(err, httpx.ErrForbiddenAddress) {
		t.Errorf("document: %v", err)
	}
	if _, err := r.ResolveHandle(t.Context(), "alice.example.com"); !errors.Is(err, ErrHandleResolutionFailed) {
		t.Errorf("handle: %v", err)
	}
	if sent != 2 || len(arrived) != 0 {
		t.Errorf("%d redirects sent, %d requests arrived behind them", sent, len(arrived))
	}
}

// badDocuments are not taken for aliceDID's, or are taken without what is wrong in them.
var badDocuments = map[string]string{
	"nothing":         "",
	"a page":          "<!doctype html><title>alice</title>",
	"null":            "null",
	"a list":          "[]",
	"without an id":   `{"alsoKnownAs":["at://alice.test"]}`,
	"another id":      `{"id":"did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"}`,
	"id in capitals":  `{"id":"DID:PLC:AAAAAAAAAAAAAAAAAAAAAAAA"}`,
	"id with a space": `{"id":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa "}`,
	"id a list":       `{"id":["did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"]}`,
	"cut":             `{"id":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","service":[`,
	"two documents":   `{"id":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}{"id":"did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"}`,
	"deep":            `{"id":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`,
}

// hollowDocuments are alice's, with parts that are no use: no key, no PDS, no handle comes of them.
var hollowDocuments = map[string]string{
	"key of another DID":        `"verificationMethod":[{"id":"#atproto","type":"Multikey","controller":"did:plc:bbbbbbbbbbbbbbbbbbbbbbbb","publicKeyMultibase":"zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"}]`,
	"key that is none":          `"verificationMethod":[{"id":"#atproto","type":"Multikey","controller":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","publicKeyMultibase":"z"}]`,
	"key of an unknown kind":    `"verificationMethod":[{"id":"#atproto","type":"JsonWebKey2020","controller":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","publicKeyMultibase":"zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"}]`,
	"PDS without a host":        `"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://"}]`,
	"PDS that is a file":        `"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"file:///etc/passwd"}]`,
	"handle that is an address": `"alsoKnownAs":["at://127.0.0.1"]`,
	"handle with a path":        `"alsoKnownAs":["at://alice.test/../x"]`,
	"handle by https":           `"alsoKnownAs":["https://alice.test"]`,
}

func hollow(parts string) []byte { return []byte(`{"id":"` + string(aliceDID) + `",` + parts + `}`) }

func TestBadDocuments(t *testing.T) {
	for name, doc := range badDocuments {
		if acc, err := ParseDocument([]byte(doc), aliceDID); err == nil {
			t.Errorf("%s: %+v", name, acc)
		}
	}
	for name, parts := range hollowDocuments {
		acc, err := ParseDocument(hollow(parts), aliceDID)
		if err != nil {
			continue // refused is as good
		}
		if key, err := acc.PublicKey(); err == nil {
			t.Errorf("%s: key %v", name, key)
		}
		if handle, err := acc.DeclaredHandle(); err == nil && handle != "alice.test" {
			t.Errorf("%s: handle %s", name, handle)
		}
		if pds := acc.PDSEndpoint(); pds != "" {
			t.Errorf("%s: PDS %s", name, pds)
		}
	}
	if _, err := ParseDocument([]byte(`{"id":"`+string(aliceDID)+`"}`), aliceDID); err != nil {
		t.Errorf("the least that is good: %v", err)
	}
	var did syntax.DID = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
	if _, err := ParseDocument([]byte(`{"id":"`+string(aliceDID)+`"}`), did); err == nil {
		t.Error("asked for another")
	}
}
