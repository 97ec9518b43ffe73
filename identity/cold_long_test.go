package identity_test

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// register makes n DIDs.
func register(t *testing.T, plc string, n int) []syntax.DID {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	pub := didKey(t, key)
	dids := make([]syntax.DID, n)
	client := didplc.Client{DirectoryURL: plc}
	for i := range dids {
		op := didplc.RegularOp{
			Type: "plc_operation", RotationKeys: []string{pub}, VerificationMethods: map[string]string{"atproto": pub},
			AlsoKnownAs: []string{fmt.Sprintf("at://u%d.test", i)},
			Services:    map[string]didplc.OpService{"atproto_pds": {Type: "AtprotoPersonalDataServer", Endpoint: "https://pds.example.com"}},
		}
		if err := op.Sign(key); err != nil {
			t.Fatal(err)
		}
		did, err := op.DID()
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Submit(t.Context(), did, &op); err != nil {
			t.Fatal(err)
		}
		dids[i] = syntax.DID(did)
	}
	return dids
}

// TestColdSpeed: 10 000 look-ups of what is not cached, against bare requests to the same directory, the real one.
func TestColdSpeed(t *testing.T) {
	if os.Getenv("ATCR_LONG") == "" {
		t.Skip("ATCR_LONG is not set")
	}
	const n, known, workers = 10_000, 1000, 32
	s := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	dids := register(t, s.PLC, known)
	transport := &http.Transport{MaxIdleConnsPerHost: workers}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	run := func(one func(i int) error) time.Duration {
		var next atomic.Int64
		var wg sync.WaitGroup
		start := time.Now()
		for range workers {
			wg.Go(func() {
				for i := next.Add(1); i <= n; i = next.Add(1) {
					if err := one(int(i)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	best := 0.0
	for round := range 3 {
		bare := run(func(i int) error {
			resp, err := client.Get(s.PLC + "/" + dids[i%known].String())
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			b := make([]byte, 4096)
			for err == nil {
				_, err = resp.Body.Read(b)
			}
			return nil
		})
		var cold []identity.Directory // a tenth of the look-ups each, so that none is cached
		for range n/known + 1 {
			cold = append(cold, identity.NewResolver(identity.ResolverOptions{PLCURL: s.PLC, TestMode: true, HTTP: client}).DIDs())
		}
		ours := run(func(i int) error { _, err := cold[i/known].LookupDID(t.Context(), dids[i%known]); return err })
		ratio := float64(bare) / float64(ours)
		best = max(best, ratio)
		t.Logf("round %d: bare %v, resolved %v: %.2f of bare HTTP", round, bare, ours, ratio)
	}
	if best < 0.7 {
		t.Errorf("%.2f of bare HTTP, want 0.7", best)
	}
}
