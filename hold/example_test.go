package hold_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
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
