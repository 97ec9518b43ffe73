// Command embed-registry is a whole container registry in one short program: no sign-in, everything in one folder.
//
//	go run ./examples/embed-registry --addr 127.0.0.1:5000 --data ./data
//	docker push 127.0.0.1:5000/app:v1
//
// SIGINT and SIGTERM let running requests end, then stop. It listens on loopback by default, since everybody who can
// reach it may read, write and delete.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:5000", "address to listen on; port 0 takes a free one")
	data := flag.String("data", "data", "folder that keeps everything; made when it isn't there")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *data); err != nil {
		fmt.Fprintln(os.Stderr, "embed-registry:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr, data string) (err error) {
	backend, err := local.Open(ctx, data)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := backend.Close(); err == nil {
			err = cerr
		}
	}()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "a registry is at /v2/")
	})
	server := &http.Server{
		Handler:           registry.NewHandler(backend, nil).WithFallback(mux),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Printf("registry on http://%s, data in %s\n", listener.Addr(), data)

	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return server.Shutdown(drain)
}
