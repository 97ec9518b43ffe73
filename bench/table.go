package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
)

// print writes the table.
func (b *bench) print(out io.Writer, rows []row) error {
	w := &strings.Builder{}
	fmt.Fprintf(w, "%s/%s, %d CPUs, %s; %d rounds, seed %d; ratios are medians of the rounds, the range in brackets\n",
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), b.rounds, b.seed)
	if b.quick {
		fmt.Fprintln(w, "\n**-quick: these figures mean nothing**")
	}
	fmt.Fprintln(w, "\n| work | ratio | at least | reached | | ours, median |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- |")
	for _, r := range rows {
		rates := b.rates[r.name]
		for _, g := range r.goals {
			ratios := make([]float64, b.rounds)
			for i := range ratios {
				ratios[i] = rates[r.of()][i] / rates[g.to][i]
			}
			m := median(ratios)
			least, verdict := "-", ""
			if g.least > 0 {
				least, verdict = fmt.Sprintf("%.2fx", g.least), "ok"
				if m < g.least {
					verdict = "**short**"
				}
			}
			fmt.Fprintf(w, "| %s | to %s | %s | %.2fx (%.2f-%.2f) | %s | %.0f %s |\n",
				r.what, g.to, least, m, slices.Min(ratios), slices.Max(ratios), verdict, median(rates[r.of()]), r.unit)
		}
	}
	b.printMemory(w)
	_, err := io.WriteString(out, w.String())
	return err
}

func (b *bench) printMemory(w io.Writer) {
	fmt.Fprintln(w, "\n| memory (resident) | idle | peak through all of this |")
	fmt.Fprintln(w, "| --- | --- | --- |")
	for _, name := range []string{ours, dist, bare, appview} {
		s := b.servers[name]
		if s == nil {
			continue
		}
		_, peak := s.memory()
		note := ""
		switch name {
		case ours:
			note = " (at most 40 and 100)"
		case appview:
			note = ", hold and PDS in one process"
		}
		fmt.Fprintf(w, "| %s%s | %.0f MB | %.0f MB |\n", name, note, mb(s.idle), mb(peak))
	}
}

func mb(kib int64) float64 { return float64(kib) * 1024 / 1e6 }

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}
