package pds_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	indigo "github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// many is a directory in which each DID has one PDS.
type many struct {
	indigo.Directory
	pds string
}

func (m many) Lookup(_ context.Context, id syntax.AtIdentifier) (*indigo.Identity, error) {
	did, err := id.AsDID()
	if err != nil {
		return nil, indigo.ErrHandleNotFound
	}
	return &indigo.Identity{DID: did, Services: map[string]indigo.ServiceEndpoint{"atproto_pds": {Type: "AtprotoPersonalDataServer",
		URL: m.pds}}}, nil
}

// An attacker with many accounts and pages as long as we take: all of them listed at once, for anonymous readers, must not cost the
// memory of all pages.
func TestLongPagesOfStrangers(t *testing.T) {
	const owners, page = 32, 15 << 20
	chunk := bytes.Repeat([]byte(" "), 1<<20)
	var sent atomic.Int64
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "getLatestCommit") {
			fmt.Fprint(w, `{"cid":"bafyreib2rxk3rybk3aobmv5cjuql3bm2twh4jo5uxgf5kpqcsgz7soitae","rev":"3k2y4m2ukdc2a"}`)
			return
		}
		for range page / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
			sent.Add(int64(len(chunk)))
		}
		select {
		case <-done:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(done)
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "appview.db"))
	must(t, err)
	defer db.Close()
	b, err := pds.New(t.Context(), pds.Options{DB: db, Directory: many{pds: srv.URL}, HTTP: &http.Client{},
		DefaultHold: "did:web:hold.test", Log: quiet()})
	must(t, err)
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for i := range owners {
		r, err := b.Repository(ctx, registry.Actor{}, fmt.Sprintf("did-plc-%s/app",
			strings.Repeat(string(rune('a'+i%26)), 22)+string(rune('a'+i/26))+"a"))
		must(t, err)
		wg.Go(func() { _, _ = r.Manifest(ctx, registry.Ref{Tag: "v1"}) })
	}
	var peak uint64
	for range 30 {
		var m runtime.MemStats
		runtime.GC() // what is held, whenever the collector would have come
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapAlloc)
		if sent.Load() >= owners*page {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	wg.Wait()
	t.Logf("sent %d MiB, peak %d MiB", sent.Load()>>20, peak>>20)
	if peak > 200<<20 {
		t.Errorf("%d MiB of memory for %d anonymous requests", peak>>20, owners)
	}
}
