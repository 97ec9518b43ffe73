// Command embed-hold is a hold in a program of one's own: it keeps layers in a folder, for a captain and a crew.
//
//	go run ./examples/embed-hold --owner did:plc:… --public-url https://hold.example.com --data ./hold-data
//
// For a network on one machine add --test-mode and a URL such as http://localhost:8080.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/atcr-dev/atcr/hold"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "embed-hold:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("embed-hold", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8080", "address to listen on")
	cfg := hold.Config{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	flags.StringVar(&cfg.Dir, "data", "hold-data", "folder of the hold's data")
	flags.StringVar(&cfg.PublicURL, "public-url", "http://localhost:8080", "where others reach the hold")
	flags.StringVar(&cfg.OwnerDID, "owner", "", "DID of the captain (required)")
	flags.BoolVar(&cfg.Public, "public", false, "everybody reads layers")
	flags.BoolVar(&cfg.AllowAllCrew, "allow-all-crew", false, "everybody who signs in may push")
	flags.BoolVar(&cfg.TestMode, "test-mode", false, "allow http and loopback names")
	if err := flags.Parse(args); err != nil {
		return err
	}

	h, err := hold.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer h.Close()

	// The hold has the paths /xrpc/, /blobs/ and /.well-known/; the rest of the server is one's own.
	mux := http.NewServeMux()
	mux.Handle("/", h.Handler())
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "I keep layers, too.") })

	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "hold %s on http://%s\n", h.DID(), ln.Addr())
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_ = h.Run(ctx) // until ctx ends: expiry of uploads and leases
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_ = srv.Shutdown(drain)
	}()
	if err := srv.Serve(ln); err != http.ErrServerClosed {
		return err
	}
	<-drained
	return nil
}
