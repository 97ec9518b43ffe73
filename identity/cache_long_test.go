package identity

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

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

// TestCachedSpeed holds the two against each other in one run.
func TestCachedSpeed(t *testing.T) {
	if os.Getenv("ATCR_LONG") == "" || raceEnabled {
		t.Skip("speed is measured with ATCR_LONG and without -race")
	}
	best := 1e9
	for range 3 { // other programs use the machine, too
		cached, bare := testing.Benchmark(BenchmarkCachedDID), testing.Benchmark(BenchmarkMap)
		ratio := float64(cached.NsPerOp()) / max(1, float64(bare.NsPerOp()))
		best = min(best, ratio)
		t.Logf("cached %d ns, %d allocations; a bare map %d ns; ratio %.1f", cached.NsPerOp(), cached.AllocsPerOp(), bare.NsPerOp(), ratio)
		if cached.AllocsPerOp() > 1 { // the answer, which is the caller's own
			t.Errorf("%d allocations", cached.AllocsPerOp())
		}
		if best <= 5 {
			return
		}
	}
	t.Errorf("a cached look-up takes %.1f times a bare map's", best)
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
