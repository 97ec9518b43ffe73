package pds_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
)

// BenchmarkVerify pulls by tag in each mode, in turns: the first pull of a manifest, which fetches its bytes from the PDS, and later
// ones. The metrics are medians of the rounds, as multiples of never in the same round.
func BenchmarkVerify(b *testing.B) {
	const tags, again = 40, 20
	w := newWorld(b, devnetPDS)
	for i := range tags + 1 {
		w.push("app", newImage(b, fmt.Sprint(i), nil), fmt.Sprint("v", i))
	}
	w.settled()
	pull := func(i int) {
		if _, err := w.repo("", "alice", "app").Manifest(context.Background(), registry.Ref{Tag: fmt.Sprint("v", i)}); err != nil {
			b.Fatal(err)
		}
	}
	modes := []pds.Verify{pds.VerifyNever, pds.VerifySampled, pds.VerifyAlways}
	ratios := map[string][]float64{}
	for b.Loop() {
		took := map[string]float64{}
		rand.Shuffle(len(modes), func(i, j int) { modes[i], modes[j] = modes[j], modes[i] })
		for _, mode := range modes {
			w.options = func(o *pds.Options) { o.Verify = mode }
			w.forget()
			_, err := w.table().Exec(`delete from pds_bytes`)
			must(b, err)
			pull(tags) // lists the records
			start := time.Now()
			for i := range tags {
				pull(i)
			}
			took["first/"+string(mode)] = float64(time.Since(start))
			start = time.Now()
			for i := range tags * again {
				pull(i % tags)
			}
			took["later/"+string(mode)] = float64(time.Since(start))
		}
		for _, when := range []string{"first/", "later/"} {
			for _, mode := range []pds.Verify{pds.VerifySampled, pds.VerifyAlways} {
				k := when + string(mode)
				ratios[k] = append(ratios[k], took[k]/took[when+string(pds.VerifyNever)])
			}
		}
	}
	for k, r := range ratios {
		slices.Sort(r)
		b.ReportMetric(r[len(r)/2], k+"-x")
	}
}
