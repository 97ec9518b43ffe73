package postgres_test

import (
	"context"
	"fmt"
	"log"

	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb/postgres"
)

// A repository in a schema of its own, in a database that other programs use, too; several processes may write it.
func ExampleOpen() {
	ctx := context.Background()
	db, err := postgres.Open(ctx, "postgres://atcr:secret@db.example.com/registry?sslmode=verify-full&search_path=atcr")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	store, err := sqlstore.New(ctx, db)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	fmt.Println(db.Dialect())
}
