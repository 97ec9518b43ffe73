// Command verify checks a CAR of a repository, from a file or standard input, and lists its records.
//
//	go run ./examples/verify < account.car
//	go run ./examples/verify did:key:z… < account.car     # and that this key has signed it
//
// The first error is printed with the byte where it is.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
)

func main() {
	if err := verify(context.Background(), os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(1)
	}
}

func verify(ctx context.Context, args []string, in io.Reader, out io.Writer) (err error) {
	src := repo.Source{Reader: in, AnyKey: len(args) == 0}
	if len(args) > 0 {
		if src.Key, err = atcrypto.ParsePublicDIDKey(args[0]); err != nil {
			return err
		}
	}
	car, err := repo.OpenCAR(ctx, src)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, car.Close()) }()
	for rec, err := range car.Records(ctx) {
		if err != nil {
			return err
		}
		fmt.Fprintln(out, rec.Path(), rec.CID)
	}
	signature := "good"
	if !car.Info.SignatureChecked {
		signature = "not checked: give the key that should have signed it"
	}
	fmt.Fprintf(out, "%s at revision %s: %d records, signature %s\n", car.Info.DID, car.Info.Rev, car.Info.Records, signature)
	return nil
}
