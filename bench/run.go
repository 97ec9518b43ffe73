package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
)

// bench is one run.
type bench struct {
	*rounds.Run
	config  config
	servers map[string]*server
	serial  int // makes contents unlike each other
	layer   []byte
}

// scale shrinks an amount of work for -quick.
func (b *bench) scale(n int) int { return b.Scale(n, 10) }

func run(ctx context.Context, c config, out io.Writer) (err error) {
	rows, err := chooseRows(c)
	if err != nil {
		return err
	}
	r, err := rounds.Start(c.Options)
	if err != nil {
		return err
	}
	b := &bench{Run: r, config: c, servers: map[string]*server{}}
	defer func() { err = errors.Join(err, r.End()) }()
	r.OnEnd(func() (err error) {
		for _, s := range b.servers {
			if s.cmd != nil {
				err = errors.Join(err, s.stop())
			}
		}
		return err
	})
	if err := b.start(ctx); err != nil {
		return err
	}
	for _, r := range rows {
		if err := b.runRow(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return r.Print(out, b.printMemory)
}

// chooseRows returns the rows to run. Beside a program from before each is about that program and ours, and must not have become
// slower: where the disk bounds it, the figures of one and the same program swing more.
func chooseRows(c config) ([]row, error) {
	rows, err := rounds.Choose(allRows(), c.Only, func(r row) string { return r.name })
	if err != nil || c.Against == "" {
		return rows, err
	}
	if c.sandbox == "" {
		rows = slices.DeleteFunc(rows, func(r row) bool { return r.network })
	}
	for i := range rows {
		least := 0.95
		if rows[i].disk {
			least = 0.85
		}
		before := before(rows[i].of())
		rows[i].servers, rows[i].goals = []string{rows[i].of(), before}, []goal{{before, least}}
	}
	return rows, nil
}

// before is the name of a server that runs the program from before.
func before(name string) string { return name + " before" }

// runRow measures one row on its servers, round by round.
func (b *bench) runRow(ctx context.Context, r row) error {
	if r.network {
		if err := b.startNetworks(ctx); err != nil {
			return fmt.Errorf("start the network: %w", err)
		}
	}
	if r.filled {
		if err := b.refill(ctx); err != nil {
			return fmt.Errorf("fill the repository: %w", err)
		}
	}
	for _, name := range r.servers {
		if r.prepare == nil {
			break
		}
		if err := r.prepare(ctx, b, b.servers[name]); err != nil {
			return fmt.Errorf("prepare %s: %w", name, err)
		}
	}
	for round := range b.Rounds {
		fmt.Fprintf(os.Stderr, "%s, round %d of %d\n", r.name, round+1, b.Rounds)
		order := slices.Clone(r.servers)
		b.Rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		rates := map[string]float64{}
		for _, name := range order {
			if err := ctx.Err(); err != nil {
				return err
			}
			rounds.SyncDisk()
			rate, err := r.measure(ctx, b, b.servers[name])
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			rates[name] = rate
		}
		for _, g := range r.goals {
			b.Note(rounds.Row{What: r.what, To: g.to, Least: g.least, Unit: r.unit}, rates[r.of()]/rates[g.to], rates[r.of()])
		}
	}
	return nil
}

// printMemory writes what each server took.
func (b *bench) printMemory(w io.Writer) {
	fmt.Fprintln(w, "\n| memory (resident) | idle | peak through all of this |")
	fmt.Fprintln(w, "| --- | --- | --- |")
	for _, name := range slices.Sorted(maps.Keys(b.servers)) {
		s := b.servers[name]
		if s.cmd == nil {
			continue
		}
		_, peak := s.memory()
		note := ""
		switch {
		case name == ours:
			note = " (at most 40 and 100)"
		case s.net != nil:
			note = ", hold and PDS in one process"
		}
		fmt.Fprintf(w, "| %s%s | %.0f MB | %.0f MB |\n", name, note, rounds.MB(s.idle), rounds.MB(peak))
	}
}
