// Command backup writes any account's repository into a file, verified while it comes: a hold's, a PDS account's.
//
//	go run ./examples/backup did:plc:… account.car
//
// With --test-mode it also takes did:web on loopback.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/repo"
)

func main() {
	test := flag.Bool("test-mode", false, "take did:web on loopback")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir := identity.NewResolver(identity.ResolverOptions{TestMode: *test})
	info, err := backup(ctx, dir, flag.Arg(0), flag.Arg(1))
	if err != nil {
		fmt.Fprintln(os.Stderr, "backup:", err)
		os.Exit(1)
	}
	fmt.Printf("%s: %d records, revision %s\n", info.DID, info.Records, info.Rev)
}

// backup puts the file there when all of it is verified, and else nothing.
func backup(ctx context.Context, dir identity.Directory, did, file string) (info repo.CARInfo, err error) {
	who, err := dir.LookupDID(ctx, syntax.DID(did))
	if err != nil {
		return info, err
	}
	key, err := who.PublicKey()
	if err != nil {
		return info, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, who.PDSEndpoint()+"/xrpc/com.atproto.sync.getRepo?did="+did, nil)
	if err != nil {
		return info, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return info, err
	}
	defer resp.Body.Close()
	out, err := os.Create(file + ".part")
	if err != nil {
		return info, err
	}
	defer os.Remove(out.Name())
	info, err = repo.VerifyCAR(ctx, repo.Source{Reader: io.TeeReader(resp.Body, out), Name: "from " + who.PDSEndpoint() + " (" + resp.Status + ")", DID: did, Key: key})
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return info, err
	}
	return info, os.Rename(out.Name(), file)
}
