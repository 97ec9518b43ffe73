package identity

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Whoever asks for names that nobody has must not make us forget those that somebody has: they still serve while the directory
// is down.
func TestUnknownNamesDriveNothingOut(t *testing.T) {
	n := newNetwork(t)
	n.docs[aliceDID.String()] = document(t, aliceDID, "alice.example.com")
	r := n.resolver(func(o *ResolverOptions) { o.MaxEntries = 10 })
	if _, err := r.LookupDID(t.Context(), aliceDID); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		did := syntax.DID("did:plc:" + strings.Repeat(string(rune('c'+i%20)), 23) + string(rune('a'+i/20)))
		if _, err := r.LookupDID(t.Context(), did); err == nil {
			t.Fatalf("%s is somebody", did)
		}
	}
	n.set(func() { n.status = http.StatusBadGateway; n.now = n.now.Add(time.Hour) })
	if _, err := r.LookupDID(t.Context(), aliceDID); err != nil {
		t.Errorf("forgotten: %v", err)
	}
	if len(r.docs.byKey) > 20 {
		t.Errorf("%d entries", len(r.docs.byKey))
	}
}
