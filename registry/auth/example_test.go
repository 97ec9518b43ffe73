package auth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/auth"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

func Example() {
	dir, _ := os.MkdirTemp("", "registry")
	defer os.RemoveAll(dir)
	ctx := context.Background()
	db, err := sqlite.Open(ctx, filepath.Join(dir, "registry.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()

	a, err := auth.New(ctx, auth.Options{
		DB:        db,
		Directory: identity.NewResolver(identity.ResolverOptions{}),
		BaseURL:   "https://registry.example.com",
		KeyPath:   filepath.Join(dir, "auth", "private-key.pem"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/auth/", a.Handler())
	mux.Handle("/v2/", registry.NewHandler(registry.UnimplementedBackend{}, &registry.Options{Authorizer: a}))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v2/", nil))
	fmt.Println(w.Code, w.Header().Get("WWW-Authenticate"))
	// Output: 401 Bearer realm="https://registry.example.com/auth/token",service="registry.example.com"
}
