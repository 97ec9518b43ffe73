package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
)

type config struct {
	rounds int
	only   []string
	dir    string
	ours   string
	tags   int
	quick  bool
	seed   uint64
}

// scale shrinks an amount of work for -quick.
func (c config) scale(n int) int {
	if c.quick {
		return max(1, n/10)
	}
	return n
}

// bench is one run.
type bench struct {
	config
	dir     string
	servers map[string]*server
	rand    *rand.Rand
	rates   map[string]map[string][]float64 // row, server: one for each round
	serial  int                             // makes contents unlike each other
	layer   []byte
	net     network
	through digest.Digest // the layer that was pushed through the AppView
}

func run(ctx context.Context, c config, out io.Writer) (err error) {
	if c.seed == 0 {
		c.seed = uint64(time.Now().UnixNano())
	}
	rows, err := chooseRows(c.only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.dir, "atcr-bench-*")
	if err != nil {
		return err
	}
	b := &bench{
		config: c, dir: dir, servers: map[string]*server{}, rand: rand.New(rand.NewPCG(c.seed, 0)),
		rates: map[string]map[string][]float64{},
	}
	defer func() {
		for _, s := range b.servers {
			if s.cmd == nil {
				continue
			}
			err = errors.Join(err, s.stop())
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := b.start(ctx); err != nil {
		return err
	}
	for _, r := range rows {
		if err := b.runRow(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return b.print(out, rows)
}

func chooseRows(only []string) ([]row, error) {
	rows := allRows()
	if only == nil {
		return rows, nil
	}
	var chosen []row
	for _, name := range only {
		i := slices.IndexFunc(rows, func(r row) bool { return r.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown row %q; -list names them", name)
		}
		chosen = append(chosen, rows[i])
	}
	return chosen, nil
}

// runRow measures one row on its servers, round by round.
func (b *bench) runRow(ctx context.Context, r row) error {
	b.rates[r.name] = map[string][]float64{}
	if r.network {
		if err := b.startNetwork(ctx); err != nil {
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
	for round := range b.rounds {
		order := slices.Clone(r.servers)
		b.rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, name := range order {
			if err := ctx.Err(); err != nil {
				return err
			}
			rounds.SyncDisk()
			rate, err := r.measure(ctx, b, b.servers[name])
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			b.rates[r.name][name] = append(b.rates[r.name][name], rate)
		}
		fmt.Fprintf(os.Stderr, "%-20s round %d/%d:", r.name, round+1, b.rounds)
		for _, name := range r.servers {
			fmt.Fprintf(os.Stderr, "  %s %.0f", name, b.rates[r.name][name][round])
		}
		_, peak := b.servers[ours].memory()
		fmt.Fprintf(os.Stderr, "  (peak of %s %.0f MB)\n", ours, rounds.MB(peak))
	}
	return nil
}
