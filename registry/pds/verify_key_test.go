package pds_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
)

// rekeyed is a directory in which one account has another key: until it is purged, or for good.
type rekeyed struct {
	identity.Directory
	did syntax.DID
	key string // multibase

	mu      sync.Mutex
	forGood bool
	purged  int
}

func (d *rekeyed) LookupDID(ctx context.Context, did syntax.DID) (*identity.Account, error) {
	acc, err := d.Directory.LookupDID(ctx, did)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil && did == d.did && d.key != "" && (d.forGood || d.purged == 0) {
		c := *acc
		c.Keys = map[string]indigo.VerificationMethod{"atproto": {Type: "Multikey", PublicKeyMultibase: d.key}}
		acc = &c
	}
	return acc, err
}

func (d *rekeyed) Purge(ctx context.Context, id syntax.AtIdentifier) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id.String() == d.did.String() {
		d.purged++
	}
	return d.Directory.Purge(ctx, id)
}

// The document that we remember names the key from before a rotation: one fresh look-up, and the proof holds. The PDS goes on
// signing with the key from before: refused, and the directory is left alone.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	d := &rekeyed{}
	w := newWorld(t, devnetPDS, func(w *world) {
		w.options = func(o *pds.Options) { o.Verify, d.Directory = pds.VerifyAlways, o.Directory; o.Directory = d }
	})
	img := newImage(t, "one", nil)
	w.push("app", img, "v1", "v2", "v3")
	w.settled()
	key, err := atcrypto.GeneratePrivateKeyK256()
	must(t, err)
	pub, err := key.PublicKey()
	must(t, err)
	d.mu.Lock()
	d.did, d.key = syntax.DID(w.accounts["alice"].did), pub.Multibase()
	d.mu.Unlock()
	got, err := pull(w, "v1")
	if err != nil || !bytes.Equal(got, img.manifest.Bytes) || w.backend.Disproved() != 0 {
		t.Errorf("after a rotation: %v, %d disproved", err, w.backend.Disproved())
	}
	if d.purged != 1 {
		t.Errorf("the document was fetched afresh %d times", d.purged)
	}

	d.mu.Lock()
	d.forGood, d.purged = true, 0
	d.mu.Unlock()
	w.forget()
	w.clock.advance(2 * time.Minute)
	for i := range 9 {
		if got, err := pull(w, []string{"v1", "v2", "v3"}[i%3]); !errors.Is(err, registry.ErrManifestUnknown) {
			t.Fatalf("signed by the key from before: %q, %v", got, err)
		}
	}
	if d.purged != 1 || w.backend.Disproved() != 3 {
		t.Errorf("fetched afresh %d times, %d disproved", d.purged, w.backend.Disproved())
	}
}
