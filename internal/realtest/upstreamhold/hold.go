// Package upstreamhold is a hold as other people run them, for tests: the methods and limits of the published lexicons
// and nothing of ours. Digests have at most 128 characters, there is no checkBlobs, no getUpload and no notifyManifest
// "delete"; crew records stand at keys of no meaning; parts go to a bucket on another address, by presigned PUT; and layer records
// are made from what notifyManifest is told.
//
//	h := upstreamhold.Start(t, upstreamhold.Options{Owner: did, Directory: dir, AllowAllCrew: true})
//	// h.DID, h.URL
//
// Everything is in memory. The bucket fails the test when a token reaches it.
package upstreamhold

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/serviceauth"
)

// Form is how getBlob sends readers to the bucket.
type Form int

// The forms seen in upstream's history.
const (
	Redirect Form = iota // 307 to a presigned address, for HEAD signed as HEAD
	URLJSON              // {"url": …}
	Bytes                // the bytes themselves
)

// Options of a hold. Owner and Directory are required.
type Options struct {
	Owner        string // DID of the captain
	Directory    identity.Directory
	Public       bool
	AllowAllCrew bool
	GetBlob      Form
	Crew         map[string][]string // DID to permissions
}

// Hold is one that runs until the test ends.
type Hold struct {
	DID, URL string

	t        testing.TB
	o        Options
	verifier *serviceauth.Verifier
	key      atcrypto.PrivateKeyExportable
	bucket   *bucket

	mu      sync.Mutex
	crew    []record
	layers  []record
	stats   map[string]*counts
	uploads map[string]string // id to DID
	tid     int
	seen    []string // requests, "GET com.atproto.sync.getBlob"
}

type record struct {
	RKey  string
	Value map[string]any
}

type counts struct{ Pulls, Pushes int }

// Start runs a hold on loopback.
func Start(t testing.TB, o Options) *Hold {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	h := &Hold{t: t, o: o, key: key, stats: map[string]*counts{}, uploads: map[string]string{}, bucket: newBucket(t)}
	srv := httptest.NewServer(http.HandlerFunc(h.serve))
	t.Cleanup(srv.Close)
	port := srv.Listener.Addr().(*net.TCPAddr).Port
	h.URL, h.DID = fmt.Sprintf("http://localhost:%d", port), fmt.Sprintf("did:web:localhost%%3A%d", port)
	h.verifier = serviceauth.NewVerifier(o.Directory, serviceauth.VerifierOptions{Audiences: []string{h.DID}})
	for did, permissions := range o.Crew {
		h.addCrew(did, permissions)
	}
	return h
}

// Requests are the XRPC calls so far, each as verb and method.
func (h *Hold) Requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.seen...)
}

// Layers are the layer records.
func (h *Hold) Layers() []map[string]any {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []map[string]any
	for _, r := range h.layers {
		out = append(out, r.Value)
	}
	return out
}

// Counts are pulls and pushes of a repository.
func (h *Hold) Counts(owner, repository string) (pulls, pushes int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.stats[owner+"/"+repository]; c != nil {
		return c.Pulls, c.Pushes
	}
	return 0, 0
}

// nextKey is a key that sorts in order of making; the caller holds mu or is alone.
func (h *Hold) nextKey() string {
	h.tid++
	return fmt.Sprintf("3kaaaaaaa%04d", h.tid)
}

func (h *Hold) addCrew(did string, permissions []string) record {
	r := record{RKey: h.nextKey(), Value: map[string]any{
		"$type": "io.atcr.hold.crew", "member": did, "role": "member", "permissions": permissions,
		"addedAt": time.Now().UTC().Format(time.RFC3339),
	}}
	h.crew = append(h.crew, r)
	return r
}

func (h *Hold) captain() map[string]any {
	return map[string]any{
		"$type": "io.atcr.hold.captain", "owner": h.o.Owner, "public": h.o.Public, "allowAllCrew": h.o.AllowAllCrew,
		"enableBlueskyPosts": false, "deployedAt": "2026-01-01T00:00:00Z",
	}
}

func (h *Hold) document(w http.ResponseWriter) {
	pub, err := h.key.PublicKey()
	if err != nil {
		h.t.Error(err)
	}
	answer(w, http.StatusOK, map[string]any{
		"@context": []string{"https://www.w3.org/ns/did/v1"}, "id": h.DID,
		"verificationMethod": []any{map[string]any{
			"id": h.DID + "#atproto", "type": "Multikey", "controller": h.DID, "publicKeyMultibase": pub.Multibase(),
		}},
		"service": []any{map[string]any{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": h.URL}},
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
