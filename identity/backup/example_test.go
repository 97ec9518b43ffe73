package backup_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"filippo.io/age"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/backup"
)

// An identity goes into a file that one key can read, and comes back in another folder.
func Example() {
	tmp, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(tmp)
	cfg := identity.Config{Dir: filepath.Join(tmp, "old"), PublicURL: "https://service.example.com"}
	if _, err := identity.LoadOrCreateDID(context.Background(), cfg); err != nil {
		fmt.Println(err)
		return
	}
	key, err := age.GenerateX25519Identity() // kept where the service is not
	if err != nil {
		fmt.Println(err)
		return
	}
	var file bytes.Buffer
	if err := backup.Export(&file, cfg, key.Recipient()); err != nil {
		fmt.Println(err)
		return
	}

	cfg.Dir = filepath.Join(tmp, "new")
	if _, err := backup.Import(&file, cfg, key); err != nil {
		fmt.Println(err)
		return
	}
	id, err := identity.Load(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(id.DID)
	// Output: did:web:service.example.com
}
