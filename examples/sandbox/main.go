// Command sandbox runs a whole small network in one process: a DID directory, a PDS with one account, a hold and an AppView, all on
// loopback, with everything they keep in one folder.
//
//	go run ./examples/sandbox
//
// It prints what to type to push and pull an image. Started again on the same folder (--data) it is the same network.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "sandbox:", err)
		os.Exit(1)
	}
}

// run is main with its surroundings as parameters. It returns when ctx ends and everything is drained.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("sandbox", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var want addresses
	flags.StringVar(&want.Registry, "registry", "127.0.0.1:5000", "where the registry listens; port 0 picks a free one and --data keeps it")
	flags.StringVar(&want.Hold, "hold", "127.0.0.1:8080", "where the hold listens; port 0 as above")
	flags.StringVar(&want.PDS, "pds", "127.0.0.1:2583", "where the PDS listens; port 0 as above")
	data := flags.String("data", "", "folder for everything that is kept (default: atcr-sandbox in the user's cache folder)")
	asJSON := flags.Bool("json", false, "print one line of JSON in place of the commands to type")
	private := flags.Bool("private", false, "make the hold private: only alice reads its images")
	verbose := flags.Bool("v", false, "log what the services do")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	want.PLC = "127.0.0.1:0"
	if *data == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("find a folder for the data (give one by --data): %w", err)
		}
		*data = filepath.Join(cache, "atcr-sandbox")
	}
	level := slog.LevelError
	if *verbose {
		level = slog.LevelInfo
	}
	n, err := start(ctx, *data, want, !*private, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})))
	if err != nil {
		return err
	}
	defer n.close()
	if err := n.ready(ctx); err != nil {
		return err
	}
	if *asJSON {
		err = n.printJSON(stdout)
	} else {
		err = n.printCommands(stdout)
	}
	if err != nil {
		return err
	}
	return n.wait(ctx)
}
