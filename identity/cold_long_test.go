package identity_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"
	"github.com/prometheus/client_golang/prometheus"

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
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	pub := public.DIDKey()
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

// TestColdSpeed: 10 000 look-ups of what is not cached, in turns with as many bare requests to the same directory, the real one.
func TestColdSpeed(t *testing.T) {
	if os.Getenv("ATCR_LONG") == "" {
		t.Skip("ATCR_LONG is not set")
	}
	const known, workers, rounds, perRound = 1000, 32, 41, 250
	s := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	dids := register(t, s.PLC, known)
	transport := &http.Transport{MaxIdleConnsPerHost: workers}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	// A cache of fewer entries than workers ask for: none is there when it is asked for again.
	r := identity.NewResolver(identity.ResolverOptions{PLCURL: s.PLC, TestMode: true, MaxEntries: workers})
	cold := r.DIDs()
	next := 0
	run := func(one func(did syntax.DID) error) float64 {
		todo := make(chan syntax.DID, perRound)
		for range perRound {
			todo <- dids[next%known]
			next++
		}
		close(todo)
		var wg sync.WaitGroup
		start := time.Now()
		for range workers {
			wg.Go(func() {
				for did := range todo {
					if err := one(did); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return float64(time.Since(start))
	}
	bare := func() float64 {
		return run(func(did syntax.DID) error {
			resp, err := client.Get(s.PLC + "/" + did.String())
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return err
		})
	}
	ours := func() float64 {
		return run(func(did syntax.DID) error { _, err := cold.LookupDID(t.Context(), did); return err })
	}
	bare()
	ours() // connections, and the directory's compiler
	asked := requests(t, r)
	ratios := make([]float64, rounds)
	for i := range ratios {
		if i%2 == 0 {
			ratios[i] = bare() / ours()
		} else {
			o := ours()
			ratios[i] = bare() / o
		}
	}
	if got := requests(t, r) - asked; got != rounds*perRound {
		t.Fatalf("%v requests for %d look-ups: some were cached", got, rounds*perRound)
	}
	slices.Sort(ratios)
	median := ratios[rounds/2]
	t.Logf("%d cold look-ups: %.2f of bare HTTP (half of the rounds within %.2f-%.2f)", rounds*perRound, median, ratios[rounds/4],
		ratios[rounds*3/4])
	if median < 0.7 {
		t.Errorf("%.2f of bare HTTP, want 0.7", median)
	}
}

// requests returns how many questions about did:plc a resolver has put to the network.
func requests(t *testing.T, r *identity.Resolver) (n float64) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(r.Metrics()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			n += m.GetCounter().GetValue()
		}
	}
	return n
}
