package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
	"github.com/atcr-dev/atcr/repo"
)

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
	*rounds.Run
	config

	filled map[string]string // repositories by name: their files
	pg     [2]*repo.Repo     // the large and the small one on PostgreSQL
	hold   string            // the program
	inputs *inputs           // of comparisons with a program from before
}

// scale shrinks an amount of work for -quick.
func (b *bench) scale(n int) int { return b.Scale(n, 100) }

func run(ctx context.Context, c config, out io.Writer) (err error) {
	groups := []group{{"against", "atcr-hold and one from before", measureAgainst}}
	if c.options.Against == "" {
		groups = allGroups()
	}
	groups, err = rounds.Choose(groups, c.options.Only, func(g group) string { return g.name })
	if err != nil {
		return err
	}
	r, err := rounds.Start(c.options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.End()) }()
	b := &bench{Run: r, config: c, filled: map[string]string{}}
	b.records, b.large = b.scale(c.records), b.scale(c.large)
	for _, g := range groups {
		for round := range r.Rounds {
			fmt.Fprintf(os.Stderr, "%s, round %d of %d\n", g.name, round+1, r.Rounds)
			if err := g.measure(ctx, b); err != nil {
				return fmt.Errorf("%s: %w", g.name, err)
			}
		}
	}
	return r.Print(out, nil)
}
