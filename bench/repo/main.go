// Command repo compares package repo with the protocol's TypeScript implementation (@atproto/repo, which works in memory),
// with the bare disk, with plain TCP, and a large repository with a small one; all in one run, as ratios.
//
//	go run ./bench/repo               all rows, 3 rounds: some ten minutes, the larger part of it TypeScript's
//	go run ./bench/repo -quick        little work: shows that it runs, measures nothing
//	go run ./bench/repo -rows commit,get -rounds 9
//	go run ./bench/repo -list
//
// Each round measures both sides one after the other, and its ratio is what counts. What is measured for its memory runs
// in a process of its own. @atproto/repo is installed into the tools folder when it isn't there (internal/realtest says
// where).
//
// With -against what the command atcr-hold does with CARs is compared with an atcr-hold from before, and nothing else:
//
//	git worktree add /tmp/before COMMIT
//	(cd /tmp/before && CGO_ENABLED=0 go build -o /tmp/atcr-hold ./cmd/atcr-hold)
//	go run ./bench/repo -against /tmp/atcr-hold     11 rounds: some three minutes
package main

import (
	"context"
	"flag"
	"io"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
)

// config is what the command line says.
type config struct {
	options rounds.Options
	keep    string
	records int
	large   int
}

func main() {
	c := config{}
	flag.StringVar(&c.keep, "keep", "", "folder in which the filled repositories stay, for the next run; filling takes minutes")
	flag.IntVar(&c.records, "records", 100_000, "records of the repositories that travel")
	flag.IntVar(&c.large, "large", 1_000_000, "records of the large repository")
	rounds.Program{
		Name: "bench/repo", Rounds: 3, Against: "atcr-hold program from before, to compare with it alone",
		ChildVerb: childVerb, Child: child,
		Rows: func() (all []rounds.Named) {
			for _, g := range allGroups() {
				all = append(all, rounds.Named{Name: g.name, What: g.what})
			}
			return all
		},
		Run: func(ctx context.Context, o rounds.Options, out io.Writer) error {
			c.options = o
			return run(ctx, c, out)
		},
	}.Main()
}
