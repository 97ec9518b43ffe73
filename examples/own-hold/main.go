// Command own-hold is a hold on a storage driver, a database and a logger of one's own, mounted beside other routes.
//
//	go run ./examples/own-hold --owner did:plc:… --public-url https://hold.example.com --database postgres://hold@db/holds
//
// Layers are kept by examples/own-driver. The database has every table, those of the repository too: PostgreSQL by a URL, else
// a SQLite file. Keys, and parts of uploads that came early, stay in the data folder.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	owndriver "github.com/atcr-dev/atcr/examples/own-driver"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/postgres"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
	"github.com/atcr-dev/atcr/storage"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "own-hold:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, logs io.Writer) (err error) {
	flags := flag.NewFlagSet("own-hold", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8080", "address to listen on")
	database := flags.String("database", "own-hold.db", "URL of a PostgreSQL database, or a SQLite file")
	layers := flags.String("layers", "layers", "folder of the layers")
	cfg := hold.Config{Log: slog.New(slog.NewJSONHandler(logs, nil)), Public: true}
	flags.StringVar(&cfg.Dir, "data", "hold-data", "folder of the hold's keys")
	flags.StringVar(&cfg.PublicURL, "public-url", "http://localhost:8080", "where others reach the hold")
	flags.StringVar(&cfg.OwnerDID, "owner", "", "DID of the captain (required)")
	flags.BoolVar(&cfg.TestMode, "test-mode", false, "allow http and loopback names")
	if err := flags.Parse(args); err != nil {
		return err
	}

	// What is given is closed by its owner, after the hold.
	if cfg.DB, err = openDatabase(ctx, *database); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cfg.DB.Close()) }()
	driver, err := owndriver.Open(*layers)
	if err != nil {
		return err
	}
	cfg.Storage = storage.WithRetry(driver, &storage.RetryOptions{Log: cfg.Log})
	h, err := hold.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()

	mux := http.NewServeMux()
	mux.Handle("/", h.Handler())
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "I keep layers, too.") })
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(out, "hold %s on http://%s\n", h.DID(), listener.Addr())

	err = h.Run(ctx) // until ctx ends
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err = errors.Join(err, server.Shutdown(drain)); err != nil {
		return err
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func openDatabase(ctx context.Context, name string) (*sqldb.DB, error) {
	if strings.HasPrefix(name, "postgres://") || strings.HasPrefix(name, "postgresql://") {
		return postgres.Open(ctx, name)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, err
	}
	return sqlite.Open(ctx, name)
}
