package identity

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// documents serves any did:plc's document, as a directory without a log.
func documents(t testing.TB) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"id":%q,"alsoKnownAs":["at://a.test"],"verificationMethod":[],"service":[]}`, strings.TrimPrefix(r.URL.Path, "/"))
	}))
	t.Cleanup(s.Close)
	return s
}

func plcDID(n int) syntax.DID {
	const digits = "abcdefghijklmnopqrstuvwxyz234567"
	b := []byte("aaaaaaaaaaaaaaaaaaaaaaaa")
	for i := len(b) - 1; n > 0; i, n = i-1, n/32 {
		b[i] = digits[n%32]
	}
	return syntax.DID("did:plc:" + string(b))
}

// BenchmarkCachedDID is to be within five times of BenchmarkMap, and allocate the answer alone.
func BenchmarkCachedDID(b *testing.B) {
	dids := NewResolver(ResolverOptions{PLCURL: documents(b).URL, TestMode: true}).DIDs()
	for i := range 1000 {
		if _, err := dids.LookupDID(b.Context(), plcDID(i)); err != nil {
			b.Fatal(err)
		}
	}
	did := plcDID(77)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dids.LookupDID(b.Context(), did); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMap(b *testing.B) {
	var mu sync.RWMutex
	m := map[syntax.DID]*Account{}
	for i := range 1000 {
		m[plcDID(i)] = &Account{}
	}
	did := plcDID(77)
	b.ReportAllocs()
	for b.Loop() {
		mu.RLock()
		if m[did] == nil {
			b.Fatal("not there")
		}
		mu.RUnlock()
	}
}

// medianRatio measures two things in turns of some milliseconds, so that what else the machine does meets both alike, and returns
// the median of how much longer the first takes.
func medianRatio(rounds int, a, b func()) float64 {
	took := func(f func()) float64 {
		start := time.Now()
		f()
		return float64(time.Since(start))
	}
	ratios := make([]float64, rounds)
	for i := range ratios {
		if i%2 == 0 {
			ratios[i] = took(a) / took(b)
		} else {
			bare := took(b)
			ratios[i] = took(a) / bare
		}
	}
	slices.Sort(ratios)
	return ratios[rounds/2]
}

// TestCachedSpeed prints how cached look-ups compare with a bare map under a RWMutex, in one run; they allocate nothing.
func TestCachedSpeed(t *testing.T) {
	if os.Getenv("ATCR_LONG") == "" || raceEnabled {
		t.Skip("speed is measured with ATCR_LONG and without -race")
	}
	const n = 20_000
	r := NewResolver(ResolverOptions{PLCURL: documents(t).URL, TestMode: true})
	dids, handle := r.DIDs(), syntax.Handle("a.example.com")
	var mu sync.RWMutex
	m := map[syntax.DID]*Account{}
	for i := range 1000 {
		acc, err := dids.LookupDID(t.Context(), plcDID(i))
		if err != nil {
			t.Fatal(err)
		}
		m[plcDID(i)] = acc
	}
	did := plcDID(77)
	r.handles.keep(handle.String(), 0, did, nil)
	bare := func() {
		for range n {
			mu.RLock()
			if m[did] == nil {
				t.Fatal("not there")
			}
			mu.RUnlock()
		}
	}
	for name, ask := range map[string]func() error{
		"a DID's document": func() error { _, err := dids.LookupDID(t.Context(), did); return err },
		"a handle's DID":   func() error { _, err := r.ResolveHandle(t.Context(), handle); return err },
	} {
		if allocs := testing.AllocsPerRun(1000, func() { _ = ask() }); allocs > 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
		ratio := medianRatio(201, func() {
			for range n {
				if err := ask(); err != nil {
					t.Fatal(err)
				}
			}
		}, bare)
		t.Logf("%s from the cache takes %.1f times a bare map's read (the goal on a quiet machine: 5)", name, ratio)
	}
}

// TestCacheMemory: a million DIDs asked for leave a cache of its configured size.
func TestCacheMemory(t *testing.T) {
	if os.Getenv("ATCR_LONG") == "" {
		t.Skip("ATCR_LONG is not set")
	}
	const size = 10_000
	c := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		fmt.Fprintf(w, `{"id":%q}`, strings.TrimPrefix(r.URL.Path, "/"))
		return w.Result(), nil
	})}
	r := NewResolver(ResolverOptions{PLCURL: "http://plc.test", TestMode: true, HTTP: c, MaxEntries: size}).DIDs()
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	ask := func(from, to int) {
		for i := from; i < to; i++ {
			if _, err := r.LookupDID(t.Context(), plcDID(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := heap()
	ask(0, size)
	full := heap() - before
	ask(size, 1_000_000)
	after := heap() - before
	runtime.KeepAlive(r)
	t.Logf("%d KiB with %d entries, %d KiB after a million", full>>10, size, after>>10)
	if after > 2*full {
		t.Errorf("%d KiB after a million, %d KiB with %d", after>>10, full>>10, size)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
