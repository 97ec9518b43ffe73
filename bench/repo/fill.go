package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// mmap is what a server with a large repository gives its readers.
const mmap = 1 << 30

// fixedKey signs all repositories here, so that any process can open them.
func fixedKey() (atcrypto.PrivateKey, error) {
	seed := sha256.Sum256([]byte("bench"))
	return atcrypto.ParsePrivateBytesK256(seed[:])
}

// openRepo opens a repository as the commands for CARs do; the function that it returns closes it.
func openRepo(ctx context.Context, path string) (*repo.Repo, func() error, error) {
	return openWith(ctx, path, &sqlite.Options{})
}

func openWith(ctx context.Context, path string, o *sqlite.Options) (*repo.Repo, func() error, error) {
	key, err := fixedKey()
	if err != nil {
		return nil, nil, err
	}
	db, err := sqlite.OpenWith(ctx, path, o)
	if err != nil {
		return nil, nil, err
	}
	s, err := sqlstore.New(ctx, db)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	r, err := repo.Open(ctx, s, repo.Options{DID: did, Key: key})
	if err != nil {
		return nil, nil, errors.Join(err, s.Close(), db.Close())
	}
	return r, func() error { return errors.Join(r.Close(), s.Close(), db.Close()) }, nil
}

// layer is the i-th record: what a hold writes most of.
func layer(i int) (repo.Write, error) {
	l := &atcr.Layer{
		Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(fmt.Appendf(nil, "layer %d", i))), Size: int64(1000 + i),
		MediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
		Manifest: fmt.Sprintf("at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/io.atcr.manifest/%x",
			sha256.Sum256(fmt.Appendf(nil, "manifest %d", i/5))),
		UserDID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz", CreatedAt: atcr.Datetime("2026-11-24T12:00:00.000Z"),
	}
	value, err := repo.RecordFrom(l)
	return repo.Write{Action: repo.Create, Collection: l.NSID(), RKey: layerKey(i), Record: value}, err
}

// layerKey is a TID of the past, so that keys that are chosen now come after.
func layerKey(i int) string { return repo.TID((1_700_000_000_000_000 + int64(i)*1000) << 10).String() }

// fill makes a database of n records, once.
func (b *bench) fill(ctx context.Context, n int) (string, error) {
	name := fmt.Sprintf("%d.db", n)
	if path := b.filled[name]; path != "" {
		return path, nil
	}
	path := filepath.Join(cmp.Or(b.keep, b.Folder), name)
	if _, err := os.Stat(path); err == nil {
		b.filled[name] = path
		return path, nil
	}
	fmt.Fprintf(os.Stderr, "filling a repository with %d records…\n", n)
	began := time.Now()
	r, shut, err := openRepo(ctx, path+".new")
	if err != nil {
		return "", err
	}
	var ws []repo.Write
	for i := range n {
		w, lerr := layer(i)
		if err = lerr; err != nil {
			break
		}
		if ws = append(ws, w); len(ws) == 5000 || i == n-1 {
			if _, err = r.Apply(ctx, ws); err != nil {
				break
			}
			ws = ws[:0]
		}
	}
	if err = errors.Join(err, shut()); err != nil {
		return "", err
	}
	if err := os.Rename(path+".new", path); err != nil { // closed, it is one file
		return "", err
	}
	fmt.Fprintf(os.Stderr, "  in %.1f s\n", time.Since(began).Seconds())
	b.filled[name] = path
	return path, nil
}
