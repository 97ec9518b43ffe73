package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry/web"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// The pages beside routes of one's own. Without OAuth and Passwords nobody can sign in to them.
func ExampleNew() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "pages")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	db, err := sqlite.Open(ctx, filepath.Join(dir, "pages.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	site, err := web.New(ctx, web.Options{
		DB: db, Directory: identity.NewMockDirectory(), BaseURL: "https://registry.example.com", Company: "Example Ltd.",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	// go site.Run(ctx) ends the sessions of browsers that are not used.
	mux := http.NewServeMux()
	mux.Handle("/", site.Handler())
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	for _, path := range []string{"/hello", "/terms", "/settings/access"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Printf("%d %s %q\n", w.Code, path, w.Header().Get("Location"))
	}
	// Output:
	// 200 /hello ""
	// 200 /terms ""
	// 303 /settings/access "/login?next=%2Fsettings%2Faccess"
}
