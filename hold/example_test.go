package hold_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
	"github.com/atcr-dev/atcr/storage/memstore"
)

// A hold in a folder, asked for its DID document.
func ExampleNew() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "hold")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	h, err := hold.New(ctx, hold.Config{
		Dir: dir, PublicURL: "https://hold.example.com", OwnerDID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz", Public: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()

	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/.well-known/did.json", nil))
	var doc struct{ ID string }
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(h.DID(), doc.ID == h.DID())
	// Output: did:web:hold.example.com true
}

// A hold whose tables lie in a database of the program's own; with package sqldb/postgres that is
//
//	db, err := postgres.Open(ctx, "postgres://hold@db.example.com/hold?sslmode=verify-full")
func ExampleNew_database() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "hold")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	db, err := sqlite.Open(ctx, filepath.Join(dir, "program.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close() // after the hold
	h, err := hold.New(ctx, hold.Config{
		Dir: filepath.Join(dir, "hold"), DB: db, PublicURL: "https://hold.example.com", OwnerDID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()

	var tables int
	err = db.Read().QueryRowContext(ctx, `select count(*) from sqlite_schema where name in ('repo_record', 'hold_layer')`).Scan(&tables)
	fmt.Println(h.DID(), tables, err)
	// Output: did:web:hold.example.com 2 <nil>
}

// A hold in a program that has a store, a logger and an HTTP server of its own: the hold is one of its routes, and Run does what a
// hold does by itself beside whatever else the program does.
func ExampleServer_Run() {
	dir, err := os.MkdirTemp("", "hold")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	h, err := hold.New(ctx, hold.Config{
		Dir: dir, PublicURL: "https://hold.example.com", OwnerDID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
		Storage: memstore.New(), // any storage.Store
		Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()

	mux := http.NewServeMux()
	mux.Handle("/", h.Handler())
	mux.HandleFunc("/about", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ours") })
	for _, path := range []string{"/about", "/health"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Println(path, w.Code, w.Body)
	}
	stop() // requests in flight are the program's to wait for
	fmt.Println(<-ended)
	// Output:
	// /about 200 ours
	// /health 200 {"status":"ok"}
	// <nil>
}
