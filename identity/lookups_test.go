package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/internal/httpx"
)

// stalling answers for all hosts but those of an attacker, which it keeps waiting.
type stalling struct {
	asked atomic.Int64 // attacker's hosts
	free  chan struct{}
}

func (s *stalling) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Host, "mallory") {
		s.asked.Add(1)
		select {
		case <-s.free:
		case <-r.Context().Done():
		}
		return nil, errors.New("no answer")
	}
	body := `{"id":"did:web:` + r.URL.Host + `"}`
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r}, nil
}

// Names under one domain whose server never answers hold some look-ups, however many are made up and whether anybody still waits for
// them; so do those that one client causes. Others' names are looked up meanwhile.
func TestStallingNames(t *testing.T) {
	for name, c := range map[string]struct {
		did    func(i int) string
		client string
		most   int64
	}{
		"under one domain":             {func(i int) string { return fmt.Sprintf("did:web:h%d.mallory.example.com", i) }, "", maxPartyLookups},
		"under one domain of a suffix": {func(i int) string { return fmt.Sprintf("did:web:h%d.mallory.co.uk", i) }, "", maxPartyLookups},
		"of one client":                {func(i int) string { return fmt.Sprintf("did:web:h.mallory%d.com", i) }, "203.0.113.9:1", maxClientLookups},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &stalling{free: make(chan struct{})}
			r := NewResolver(ResolverOptions{HTTP: &http.Client{Transport: s}})
			ctx := t.Context()
			if c.client != "" {
				req := httptest.NewRequest("GET", "/", nil)
				req.RemoteAddr = c.client
				httpx.WithClient(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ctx = context.WithoutCancel(r.Context()) }),
					httpx.VisitOptions{}).ServeHTTP(httptest.NewRecorder(), req)
			}
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			var wg sync.WaitGroup
			var refused atomic.Int64
			for i := range 200 {
				wg.Go(func() {
					_, err := r.LookupDID(ctx, syntax.DID(c.did(i)))
					if errors.Is(err, errTooManyLookups) && errors.Is(err, ErrDIDResolutionFailed) && refused.Add(1) == 200-c.most {
						for end := time.Now().Add(10 * time.Second); s.asked.Load() < c.most && time.Now().Before(end); {
							time.Sleep(time.Millisecond) // the others are on their way to the server
						}
						cancel() // nobody waits for the others any more
					}
				})
			}
			wg.Wait()
			if got := s.asked.Load(); got != c.most {
				t.Errorf("%d are asked at once, want %d", got, c.most)
			}
			for i := range 10 {
				if _, err := r.LookupDID(t.Context(), syntax.DID(fmt.Sprintf("did:web:alice%d.example.org", i))); err != nil {
					t.Errorf("another's: %v", err)
				}
			}
			close(s.free)
		})
	}
}

// Names of others that are registered under the same public suffix are looked up while an attacker's stall.
func TestStallingNamesUnderASuffix(t *testing.T) {
	for _, suffix := range []string{"co.uk", "github.io", "pages.dev", "com"} {
		t.Run(suffix, func(t *testing.T) {
			t.Parallel()
			s := &stalling{free: make(chan struct{})}
			r := NewResolver(ResolverOptions{HTTP: &http.Client{Transport: s}})
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for i := range 2 * maxPartyLookups {
				wg.Go(func() { _, _ = r.LookupDID(ctx, syntax.DID(fmt.Sprintf("did:web:mallory%d.%s", i, suffix))) })
			}
			for s.asked.Load() < maxPartyLookups {
				time.Sleep(time.Millisecond)
			}
			for i := range 4 {
				if _, err := r.LookupDID(t.Context(), syntax.DID(fmt.Sprintf("did:web:alice%d.%s", i, suffix))); err != nil {
					t.Errorf("another's: %v", err)
				}
			}
			cancel()
			close(s.free)
			wg.Wait()
		})
	}
}
