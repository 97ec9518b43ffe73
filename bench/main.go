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
// The servers are processes of their own. Distribution is installed into the tools folder when it isn't there
// (internal/realtest says where); it runs with its filesystem driver, its descriptor cache, and without access log.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == serveBare {
		if err := runBare(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	var c config
	var only string
	var list bool
	flag.IntVar(&c.rounds, "rounds", 5, "rounds of each row")
	flag.StringVar(&only, "rows", "", "rows to run, separated by commas; all when empty")
	flag.StringVar(&c.dir, "dir", "", "folder for the servers' data; a temporary one when empty")
	flag.StringVar(&c.ours, "ours", "", "embed-registry program; built when empty")
	flag.IntVar(&c.tags, "tags", 100_000, "tags in the large repository")
	flag.BoolVar(&c.quick, "quick", false, "a tenth of the work: shows that it runs, measures nothing")
	flag.Uint64Var(&c.seed, "seed", 0, "seed of the order; by the clock when 0")
	flag.BoolVar(&list, "list", false, "list the rows")
	flag.Parse()
	if list {
		for _, r := range allRows() {
			fmt.Printf("%-20s %s\n", r.name, r.what)
		}
		return
	}
	if only != "" {
		c.only = strings.Split(only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, c, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
