// Command install installs the programs that ATCR's tests use:
//
//	go run ./internal/realtest/install default     what make test needs
//	go run ./internal/realtest/install crane oras
//
// It does nothing for what is already there, and may run several times at once.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := install(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "install:", err)
		os.Exit(1)
	}
}

func install(ctx context.Context, names []string) error {
	if len(names) == 0 {
		names = []string{"default"}
	}
	var components []tools.Component
	for _, name := range names {
		cs, err := tools.Parse(name)
		if err != nil {
			return err
		}
		components = append(components, cs...)
	}
	return tools.Install(ctx, os.Stdout, components...)
}
