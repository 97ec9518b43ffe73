package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// A repository in a database that has other tables, too.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "sqlite")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	db, err := sqlite.Open(ctx, filepath.Join(dir, "program.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	if _, err := db.Write().ExecContext(ctx, `create table guest (name text)`); err != nil {
		fmt.Println(err)
		return
	}
	store, err := sqlstore.New(ctx, db)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()

	var tables int
	err = db.Read().QueryRowContext(ctx, `select count(*) from sqlite_schema where name in ('guest', 'repo_head')`).Scan(&tables)
	fmt.Println(tables, db.Dialect(), err)
	// Output: 2 sqlite <nil>
}
