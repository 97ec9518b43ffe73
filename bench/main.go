// Command bench compares a registry made of ATCR's packages (examples/embed-registry) with CNCF distribution and with a
// bare net/http server, in one run on one machine, and prints a Markdown table of ratios.
//
//	go run ./bench                    all rows, 5 rounds: some ten minutes
//	go run ./bench -quick             the same rows with less work each, to see whether it runs
//	go run ./bench -rows put-layer -rounds 11
//	go run ./bench -list
//
// Rates of two runs can't be compared: a shared disk swings by 2-4x within a minute. So each round measures all servers one
// after the other in random order, takes the ratio inside the round, and the table shows the median of those ratios with
// the range. Between measurements the disk is brought to rest by sync.
//
// With -against the same work is given to a program from before, and to nobody else: what was lost or won since.
//
//	git worktree add /tmp/before COMMIT
//	(cd /tmp/before && CGO_ENABLED=0 go build -o /tmp/embed-registry ./examples/embed-registry)
//	(cd /tmp/before && CGO_ENABLED=0 go build -o /tmp/sandbox ./examples/sandbox)
//	go run ./bench -against /tmp/embed-registry -against-sandbox /tmp/sandbox     11 rounds: some ten minutes
//
// The servers are processes of their own. Distribution is installed into the tools folder when it isn't there
// (internal/realtest says where); it runs with its filesystem driver, its descriptor cache, and without access log.
package main

import (
	"context"
	"flag"
	"io"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
)

// config is what the command line says.
type config struct {
	rounds.Options
	ours    string // program; built when empty
	sandbox string // from before
	tags    int
}

func main() {
	c := config{}
	flag.StringVar(&c.ours, "ours", "", "embed-registry program; built when empty")
	flag.StringVar(&c.sandbox, "against-sandbox", "", "sandbox program from before: with -against, for the rows through an AppView")
	flag.IntVar(&c.tags, "tags", 100_000, "tags in the large repository")
	rounds.Program{
		Name: "bench", Rounds: 5, Against: "embed-registry program from before, to compare with it alone",
		ChildVerb: serveBare, Child: func(_ context.Context, args []string) error { return runBare(args) },
		Rows: func() (all []rounds.Named) {
			for _, r := range allRows() {
				all = append(all, rounds.Named{Name: r.name, What: r.what})
			}
			return all
		},
		Run: func(ctx context.Context, o rounds.Options, out io.Writer) error {
			c.Options = o
			return run(ctx, c, out)
		},
	}.Main()
}
