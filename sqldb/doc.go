// Package sqldb is the database that the rooms of this module share: [DB] is what registry/auth, registry/pds, registry/local and
// repo/sqlstore are given. Several of them may have tables in one database; each prefixes its own and migrates them when it is opened.
//
//	db, err := sqlite.Open(ctx, "data/registry.db")   // package sqldb/sqlite; or sqldb/postgres
//	defer db.Close()
//	a, err := auth.New(ctx, auth.Options{DB: db, …})
//	backend, err := pds.New(ctx, pds.Options{DB: db, …})
//
// This package imports no driver; [New] takes databases that a program opened itself. All rooms are tested on SQLite, repo/sqlstore
// on PostgreSQL, too.
package sqldb
