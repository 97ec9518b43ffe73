package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
	"github.com/atcr-dev/atcr/repo"
)

type config struct {
	rounds  int
	only    []string
	dir     string
	keep    string
	records int
	large   int
	quick   bool
	seed    uint64
}

func (c config) scale(n int) int {
	if c.quick {
		return max(1, n/100)
	}
	return n
}

// group is rows that are measured together.
type group struct {
	name    string
	what    string
	measure func(context.Context, *bench) error // one round
}

func allGroups() []group {
	return []group{
		{"cars", "import, export and verify, beside @atproto/repo", measureCARs},
		{"large", "memory of the export of the large repository", measureLargeExport},
		{"commit", "one more record, beside an append and fsync", measureCommits},
		{"open", "open large and small", measureOpen},
		{"get", "one record, and a page of 100, large and small", measureReads},
		{"postgres", "commit, get and page on PostgreSQL", measurePostgres},
		{"firehose", "100 consumers, beside plain TCP", measureFirehose},
		{"deaf", "memory with a consumer that never reads", measureDeaf},
	}
}

// bench is one run.
type bench struct {
	config
	dir  string
	rand *rand.Rand
	rows []*rounds.Row // in the order in which they were first measured
	peak []*peak

	filled map[string]string // repositories by name: their files
	pg     [2]*repo.Repo     // the large and the small one on PostgreSQL
	close  []func() error
}

// peak is the most memory that one kind of work ever took.
type peak struct {
	what  string
	limit float64 // MB; 0 is none
	kib   int64
}

func run(ctx context.Context, c config, out io.Writer) (err error) {
	if c.seed == 0 {
		c.seed = uint64(time.Now().UnixNano())
	}
	c.records, c.large = c.scale(c.records), c.scale(c.large)
	groups, err := chooseGroups(c.only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.dir, "atcr-bench-repo-*")
	if err != nil {
		return err
	}
	b := &bench{config: c, dir: dir, rand: rand.New(rand.NewPCG(c.seed, 0)), filled: map[string]string{}}
	defer func() {
		for _, f := range slices.Backward(b.close) {
			err = errors.Join(err, f())
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	for _, g := range groups {
		for round := range b.rounds {
			fmt.Fprintf(os.Stderr, "%s, round %d of %d\n", g.name, round+1, b.rounds)
			if err := g.measure(ctx, b); err != nil {
				return fmt.Errorf("%s: %w", g.name, err)
			}
		}
	}
	return b.print(out)
}

func chooseGroups(only []string) ([]group, error) {
	all := allGroups()
	if only == nil {
		return all, nil
	}
	var chosen []group
	for _, name := range only {
		i := slices.IndexFunc(all, func(g group) bool { return g.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown rows %q; -list names them", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// faster notes a round of a row whose goal is to be so many times as fast: times of ours and theirs, in ms.
func (b *bench) faster(row rounds.Row, ours, theirs float64) { b.note(row, theirs/ours, ours) }

// within notes a round of a row whose goal is not to take more than so many times as long.
func (b *bench) within(row rounds.Row, ours, theirs float64) { b.note(row, ours/theirs, ours) }

func (b *bench) note(row rounds.Row, ratio, ours float64) {
	i := slices.IndexFunc(b.rows, func(r *rounds.Row) bool { return r.What == row.What && r.To == row.To })
	if i < 0 {
		i = len(b.rows)
		b.rows = append(b.rows, &row)
	}
	r := b.rows[i]
	r.Ratios, r.Ours = append(r.Ratios, ratio), append(r.Ours, ours)
	fmt.Fprintf(os.Stderr, "  %s: %.3g %s, %.2fx to %s\n", r.What, ours, r.Unit, ratio, r.To)
}

// memory notes what a process took at most.
func (b *bench) memory(what string, limit float64, kib int64) {
	i := slices.IndexFunc(b.peak, func(p *peak) bool { return p.what == what })
	if i < 0 {
		i = len(b.peak)
		b.peak = append(b.peak, &peak{what: what, limit: limit})
	}
	b.peak[i].kib = max(b.peak[i].kib, kib)
}

func (b *bench) print(out io.Writer) error {
	w := &strings.Builder{}
	fmt.Fprintln(w, rounds.Machine(b.rounds, b.seed))
	if b.quick {
		fmt.Fprintln(w, "\n**-quick: these figures mean nothing**")
	}
	var rows []rounds.Row
	for _, r := range b.rows {
		rows = append(rows, *r)
	}
	rounds.Print(w, rows)
	if len(b.peak) > 0 {
		fmt.Fprintln(w, "\n| memory of a process (resident, most of all rounds) | at most | reached | |")
		fmt.Fprintln(w, "| --- | --- | --- | --- |")
	}
	for _, p := range b.peak {
		limit, verdict := "-", ""
		if p.limit > 0 {
			limit, verdict = fmt.Sprintf("%.0f MB", p.limit), "ok"
			if rounds.MB(p.kib) > p.limit {
				verdict = "**short**"
			}
		}
		fmt.Fprintf(w, "| %s | %s | %.0f MB | %s |\n", p.what, limit, rounds.MB(p.kib), verdict)
	}
	_, err := io.WriteString(out, w.String())
	return err
}
