package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
)

// print writes the table.
func (b *bench) print(out io.Writer, rows []row) error {
	w := &strings.Builder{}
	fmt.Fprintln(w, rounds.Machine(b.rounds, b.seed))
	if b.quick {
		fmt.Fprintln(w, "\n**-quick: these figures mean nothing**")
	}
	var lines []rounds.Row
	for _, r := range rows {
		rates := b.rates[r.name]
		for _, g := range r.goals {
			ratios := make([]float64, b.rounds)
			for i := range ratios {
				ratios[i] = rates[r.of()][i] / rates[g.to][i]
			}
			lines = append(lines, rounds.Row{What: r.what, To: g.to, Least: g.least, Ratios: ratios, Ours: rates[r.of()], Unit: r.unit})
		}
	}
	rounds.Print(w, lines)
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
		fmt.Fprintf(w, "| %s%s | %.0f MB | %.0f MB |\n", name, note, rounds.MB(s.idle), rounds.MB(peak))
	}
}
