package datadir_test

import (
	"context"
	"fmt"
	"os"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/datadir"
)

// The records of a hold, read without its server. While that runs, ReadRepo is the way; with a Config.DB of PostgreSQL, this one, too.
func ExampleOpenRepo() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "hold")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	server := hold.Config{Dir: dir, PublicURL: "https://hold.example.com", OwnerDID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz"}
	cfg, err := server.DataDir()
	if err != nil {
		fmt.Println(err)
		return
	}
	o, err := datadir.OpenRepo(ctx, cfg)
	if err != nil {
		fmt.Println(err) // datadir.ErrLocked, with the pid of the server that runs
		return
	}
	defer o.Close()
	head, err := o.Repo.Head(ctx)
	fmt.Println(o.Identity.DID, head.Seq, err)
	// Output: did:web:hold.example.com 0 <nil>
}
