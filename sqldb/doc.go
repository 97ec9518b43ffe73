// Package sqldb is the database value that packages with tables are given: [DB] goes to hold, registry/appview, registry/auth,
// registry/pds, registry/local and repo/sqlstore. Several of them may have tables in one database; each prefixes its own and migrates
// them when it is opened. Two holds, or two repositories, need a database (or a PostgreSQL schema) each.
//
//	db, err := sqlite.Open(ctx, "data/registry.db")   // package sqldb/sqlite; or sqldb/postgres
//	defer db.Close()
//	a, err := auth.New(ctx, auth.Options{DB: db, …})
//	backend, err := pds.New(ctx, pds.Options{DB: db, …})
//
// This package imports no driver, sqldb/sqlite and sqldb/postgres one each; [New] takes databases that a program opened itself.
package sqldb
