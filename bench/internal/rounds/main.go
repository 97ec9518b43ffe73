package rounds

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Options are what every bench is told on its command line.
type Options struct {
	Rounds  int
	Only    []string // names of rows or of groups of rows; nil is all
	Dir     string   // where the temporary folder is made; empty is the system's place
	Quick   bool     // little work: shows that it runs, measures nothing
	Seed    uint64   // 0 is by the clock
	Against string   // a program from before, which takes the place of what is compared with otherwise; empty: none
}

// Named is a row, or a group of rows, that can be chosen.
type Named struct{ Name, What string }

// Program is a bench as a command.
type Program struct {
	Name    string // in its errors
	Rounds  int    // unless -rounds says otherwise
	Against string // help of -against
	// Child is run in place of the bench when the first argument is ChildVerb.
	ChildVerb string
	Child     func(ctx context.Context, args []string) error
	Rows      func() []Named
	Run       func(ctx context.Context, o Options, out io.Writer) error
}

// AgainstRounds is how many rounds a comparison with a program from before has, unless -rounds says otherwise.
const AgainstRounds = 11

// Main is main. What more flags there are is defined before.
func (p Program) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := p.run(ctx, flag.CommandLine, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
		os.Exit(1)
	}
}

func (p Program) run(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	if len(args) > 0 && args[0] == p.ChildVerb {
		return p.Child(ctx, args[1:])
	}
	var o Options
	var only string
	var list bool
	flags.IntVar(&o.Rounds, "rounds", 0, fmt.Sprintf("rounds of each row; 0 is %d, and %d with -against", p.Rounds, AgainstRounds))
	flags.StringVar(&only, "rows", "", "rows to run, separated by commas; all when empty")
	flags.StringVar(&o.Dir, "dir", "", "folder for what is measured; a temporary one when empty")
	flags.BoolVar(&o.Quick, "quick", false, "little work: shows that it runs, measures nothing")
	flags.Uint64Var(&o.Seed, "seed", 0, "seed of what is random; by the clock when 0")
	flags.StringVar(&o.Against, "against", "", p.Against)
	flags.BoolVar(&list, "list", false, "list the rows")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if list {
		for _, r := range p.Rows() {
			fmt.Fprintf(out, "%-20s %s\n", r.Name, r.What)
		}
		return nil
	}
	if only != "" {
		o.Only = strings.Split(only, ",")
	}
	if o.Against != "" {
		if _, err := os.Stat(o.Against); err != nil {
			return fmt.Errorf("-against: %w", err)
		}
	}
	switch {
	case o.Rounds < 0:
		return errors.New("-rounds must not be negative")
	case o.Rounds == 0 && o.Against != "":
		o.Rounds = AgainstRounds
	case o.Rounds == 0:
		o.Rounds = p.Rounds
	}
	return p.Run(ctx, o, out)
}

// Choose takes those of all that are named; nil takes all.
func Choose[T any](all []T, only []string, name func(T) string) ([]T, error) {
	if only == nil {
		return all, nil
	}
	var chosen []T
	for _, want := range only {
		n := len(chosen)
		for _, one := range all {
			if name(one) == want {
				chosen = append(chosen, one)
			}
		}
		if len(chosen) == n {
			return nil, fmt.Errorf("unknown row %q; -list names them", want)
		}
	}
	return chosen, nil
}
