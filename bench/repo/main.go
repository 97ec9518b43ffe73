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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == childVerb {
		if err := child(ctx, os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench/repo:", err)
			os.Exit(1)
		}
		return
	}
	var c config
	var only string
	var list bool
	flag.IntVar(&c.rounds, "rounds", 3, "rounds of each row")
	flag.StringVar(&only, "rows", "", "groups of rows to run, separated by commas; all when empty")
	flag.StringVar(&c.dir, "dir", "", "folder for the repositories; a temporary one when empty")
	flag.StringVar(&c.keep, "keep", "", "folder in which the filled repositories stay, for the next run; filling takes minutes")
	flag.IntVar(&c.records, "records", 100_000, "records of the repositories that travel")
	flag.IntVar(&c.large, "large", 1_000_000, "records of the large repository")
	flag.BoolVar(&c.quick, "quick", false, "a hundredth of the work: shows that it runs, measures nothing")
	flag.Uint64Var(&c.seed, "seed", 0, "seed of the keys that are read; by the clock when 0")
	flag.BoolVar(&list, "list", false, "list the groups of rows")
	flag.Parse()
	if list {
		for _, g := range allGroups() {
			fmt.Printf("%-12s %s\n", g.name, g.what)
		}
		return
	}
	if only != "" {
		c.only = strings.Split(only, ",")
	}
	if err := run(ctx, c, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench/repo:", err)
		os.Exit(1)
	}
}
