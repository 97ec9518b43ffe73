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

// A page approves a device that waits by a code, and lists what may act for an account.
func ExampleDevices() {
	var a *auth.Auth // of auth.New
	http.HandleFunc("POST /device", func(w http.ResponseWriter, r *http.Request) {
		did, handle, grant := "did:plc:…", "alice.example.com", "oauth-…" // whom the browser's session belongs to, and a grant made for this device
		if err := a.Devices().Approve(r.Context(), r.PostFormValue("user_code"), did, handle, grant); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest) // a registry.Error has a status, and a message for people
			return
		}
		devices, err := a.Devices().List(r.Context(), did)
		if err != nil {
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		for _, d := range devices {
			fmt.Fprintln(w, d.Name, d.Used, d.Address)
		}
	})
}

// A robot for a CI: its secret is shown once.
func ExampleRobots() {
	var a *auth.Auth // of auth.New
	make := func(ctx context.Context, did, handle, grant string) (secret string, err error) {
		secret, robot, err := a.Robots().Create(ctx, did, handle, grant, auth.Robot{
			Name: "nightly build", Repositories: []string{"app", "team/*"}, Actions: []registry.Action{registry.Push}, Days: 30,
		})
		if err != nil {
			return "", err
		}
		fmt.Println("until", robot.Ends)
		return secret, nil
	}
	_ = make
}
