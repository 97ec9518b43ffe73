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
	"net/url"
	"os"
	"os/signal"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/bluesky-social/indigo/util/ssrf"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/repo"
)

// maxCAR bounds what a server may send.
const maxCAR = 16 << 30

func main() {
	test := flag.Bool("test-mode", false, "take did:web on loopback")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir := identity.NewResolver(identity.ResolverOptions{TestMode: *test})
	client := &http.Client{Transport: ssrf.PublicOnlyTransport()} // the address stands in a document that anybody may have written
	if *test {
		client = http.DefaultClient
	}
	info, err := backup(ctx, dir, client, flag.Arg(0), flag.Arg(1))
	if err != nil {
		fmt.Fprintln(os.Stderr, "backup:", err)
		os.Exit(1)
	}
	fmt.Printf("%s: %d records, revision %s\n", info.DID, info.Records, info.Rev)
}

// backup puts the file there when all of it is verified, and else nothing.
func backup(ctx context.Context, dir identity.Directory, client *http.Client, did, file string) (info repo.CARInfo, err error) {
	who, err := dir.LookupDID(ctx, syntax.DID(did))
	if err != nil {
		return info, err
	}
	key, err := who.PublicKey()
	if err != nil {
		return info, err
	}
	from := who.PDSEndpoint() + "/xrpc/com.atproto.sync.getRepo?did=" + url.QueryEscape(did)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return info, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return info, err
	}
	defer resp.Body.Close()
	out, err := os.Create(file + ".part")
	if err != nil {
		return info, err
	}
	defer os.Remove(out.Name())
	info, err = repo.VerifyCAR(ctx, repo.Source{
		Reader: io.TeeReader(io.LimitReader(resp.Body, maxCAR), out),
		Name:   "from " + who.PDSEndpoint() + " (" + resp.Status + ")", DID: did, Key: key,
	})
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return info, err
	}
	return info, os.Rename(out.Name(), file)
}
