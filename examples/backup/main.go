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
	if err := backup(ctx, dir, http.DefaultClient, flag.Arg(0), flag.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, "backup:", err)
		os.Exit(1)
	}
}

func backup(ctx context.Context, dir identity.Directory, client *http.Client, did, file string) error {
	id, err := syntax.ParseDID(did)
	if err != nil {
		return err
	}
	who, err := dir.LookupDID(ctx, id)
	if err != nil {
		return err
	}
	key, err := who.PublicKey()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, who.PDSEndpoint()+"/xrpc/com.atproto.sync.getRepo?did="+did, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	out, err := os.Create(file + ".part")
	if err != nil {
		return err
	}
	info, err := repo.VerifyCAR(ctx, repo.Source{Reader: io.TeeReader(resp.Body, out), DID: did, Key: key})
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	fmt.Printf("%s: %d records, revision %s\n", did, info.Records, info.Rev)
	return os.Rename(file+".part", file)
}
