package backup_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/identity/plc"
)

// A hold is backed up, its folder is lost, and it comes back in another.
func Example() {
	ctx := context.Background()
	tmp, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(tmp)
	cfg := hold.Config{Dir: filepath.Join(tmp, "hold"), PublicURL: "https://hold.example.com", OwnerDID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz"}
	h, err := hold.New(ctx, cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := age.GenerateX25519Identity() // kept where the hold is not
	if err != nil {
		fmt.Println(err)
		return
	}

	to, err := backup.OpenFolder(filepath.Join(tmp, "backups"))
	if err != nil {
		fmt.Println(err)
		return
	}
	set, err := backup.Create(ctx, to, h.Contents(), backup.Options{Recipients: []age.Recipient{key.Recipient()}, Layers: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := h.Close(); err != nil {
		fmt.Println(err)
		return
	}

	cfg.Dir = filepath.Join(tmp, "new")
	dir, err := cfg.DataDir()
	if err != nil {
		fmt.Println(err)
		return
	}
	trust := backup.Trust{Keys: []string{set.SigningKey}} // noted when the set was made, not read from the target
	if _, err := backup.Restore(ctx, to, "", dir, backup.RestoreOptions{Trust: trust, Keys: []age.Identity{key}}); err != nil {
		fmt.Println(err)
		return
	}
	again, err := hold.New(ctx, cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer again.Close()
	fmt.Println(set.DID, again.DID() == set.DID.String())
	// Output: did:web:hold.example.com true
}

// A hold backs itself up every hour while it runs, and keeps a month of it.
func ExampleOptions_Job() {
	ctx := context.Background()
	me, err := age.ParseX25519Recipient("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p") // the private half is elsewhere
	if err != nil {
		log.Fatal(err)
	}
	o := backup.Options{Recipients: []age.Recipient{me}, Layers: true, Keep: 30 * 24}
	h, err := hold.New(ctx, hold.Config{
		Dir: "/var/lib/hold", PublicURL: "https://hold.example.com", Addr: ":8080", OwnerDID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
		Backup: &hold.BackupSchedule{Every: time.Hour, Run: o.Job(func(context.Context) (backup.Target, error) {
			return backup.OpenFolder("/mnt/backups") // not there: logged, and tried again after ten minutes
		})},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	if err := h.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// A hold is restored from a bucket that others can write to, too: its DID is known, and the log of its did:plc names the keys that signed.
func ExampleTrust() {
	directory := &plc.Client{}
	trust := backup.Trust{
		DID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz", MaxAge: 2 * time.Hour, // a backup is made each hour
		Document: func(ctx context.Context, did syntax.DID, at time.Time) ([]string, error) {
			log, err := directory.Log(ctx, did)
			if err != nil {
				return nil, err
			}
			return log.SigningKeysAt(at, time.Hour), nil
		},
	}
	ctx := context.Background()
	from, err := backup.OpenFolder("/mnt/backups")
	if err != nil {
		log.Fatal(err)
	}
	key, err := age.ParseX25519Identity(os.Getenv("HOLD_BACKUP_KEY"))
	if err != nil {
		log.Fatal(err)
	}
	dir, err := hold.Config{
		Dir: "/var/lib/hold", PublicURL: "https://hold.example.com", OwnerDID: "did:plc:z72i7hdynmk6r22z27h6tvur",
	}.DataDir()
	if err != nil {
		log.Fatal(err)
	}
	_, err = backup.Restore(ctx, from, "", dir, backup.RestoreOptions{Keys: []age.Identity{key}, Trust: trust,
		Confirm: func(_ context.Context, c *backup.Claims) error { // the directory is down
			fmt.Println(c.Unproven, c.Manifest.SigningKey, c.Captain, c.Crew)
			return errors.New("not restored: look at the key first")
		}})
	if err != nil {
		log.Fatal(err)
	}
}
