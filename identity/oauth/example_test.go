package oauth_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/oauth"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// A program that signs people in: two pages beside the client's metadata.
func Example() {
	db, err := sqlite.Open(context.Background(), "data/app.db")
	if err != nil {
		log.Fatal(err)
	}
	client, err := oauth.New(context.Background(), oauth.Config{
		DB: db, Directory: identity.NewResolver(identity.ResolverOptions{}), URL: "https://app.example.com", Name: "An app",
		Scopes: []string{"repo:com.example.note"}, KeyPath: "data/client.key", SealPath: "data/seal.key",
	})
	if err != nil {
		log.Fatal(err)
	}
	cookie := http.Cookie{Name: "__Host-signing-in", Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	http.Handle("GET /oauth-client-metadata.json", client.Handler())
	http.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		started, err := client.Begin(r.Context(), oauth.Begin{Account: r.FormValue("account")})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		set := cookie
		set.Value = started.Browser
		http.SetCookie(w, &set)
		http.Redirect(w, r, started.URL, http.StatusSeeOther)
	})
	http.HandleFunc("GET /auth/oauth/callback", func(w http.ResponseWriter, r *http.Request) {
		var browser string
		if c, err := r.Cookie(cookie.Name); err == nil {
			browser = c.Value
		}
		finished, err := client.Finish(r.Context(), r.URL.Query(), browser)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, "signed in as", finished.Grant.DID) // client.Do sends requests by finished.Grant.ID
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", nil)) // behind a proxy with the certificate
}

// A key is replaced while the program runs, which takes it up within seconds.
func ExampleRotateKey() {
	id, err := oauth.RotateKey("data/client.key")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("sign-ins from now on use the key", id)
}
