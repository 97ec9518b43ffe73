package hold_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"

	"github.com/atcr-dev/atcr/hold"
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
