// Command postgres-repo keeps a signed repository of records in a PostgreSQL database, adds a record to it at each run, and
// writes it to standard output as a CAR, which examples/verify checks.
//
//	go run ./examples/postgres-repo --database postgres://me@localhost/notes "a note" > notes.car
//	go run ./examples/verify < notes.car
//
// Several processes may do so at the same time: each commit goes on from the last.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb/postgres"
)

const (
	did        = "did:web:notes.example.com"
	collection = "com.example.note"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "postgres-repo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, log io.Writer) (err error) {
	flags := flag.NewFlagSet("postgres-repo", flag.ContinueOnError)
	database := flags.String("database", "", "URL of the PostgreSQL database")
	keyFile := flags.String("key", "notes.key", "file of the signing key; made when it isn't there")
	if err := flags.Parse(args); err != nil {
		return err
	}
	key, err := loadKey(*keyFile)
	if err != nil {
		return err
	}
	db, err := postgres.Open(ctx, *database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	store, err := sqlstore.New(ctx, db)
	if err != nil {
		return err
	}
	r, err := repo.Open(ctx, store, repo.Options{DID: did, Key: key})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()

	record, err := repo.RecordFrom(map[string]any{
		"$type": collection, "text": strings.Join(flags.Args(), " "), "createdAt": time.Now().UTC().Format(time.RFC3339),
	})
	if err != nil {
		return err
	}
	// One signed commit, whole or not at all; a key of its own for each record keeps two writers apart.
	commit, err := r.Apply(ctx, []repo.Write{{Action: repo.Create, Collection: collection, Record: record}})
	if err != nil {
		return err
	}
	fmt.Fprintf(log, "commit %s at revision %s\n", commit.CID, commit.Rev)
	for rec, err := range r.List(ctx, collection, "", false) {
		if err != nil {
			return err
		}
		fmt.Fprintln(log, rec.Path(), rec.CID)
	}
	return repo.ExportCAR(ctx, r, out, nil)
}

func loadKey(file string) (atcrypto.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err == nil {
		return atcrypto.ParsePrivateMultibase(string(text))
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(file, []byte(key.Multibase()), 0o600)
}
