// Package sqlx is what the packages share of SQL, beside the database itself (package sqldb): migrations by package ([Migrate]),
// transactions ([InTx]), lists of text ([Strings]) and kinds of errors ([Wrap]). It imports no driver; sqldb/sqlite and sqldb/postgres do,
// one each, and are the only places that may.
//
//	db, err := sqlite.Open(ctx, filepath.Join(dir, "hold.db"))
//	err = sqlx.Migrate(ctx, db, migrations, "hold_version")      // migrations: embed.FS with 00001_name.sql …
//	err = sqlx.InTx(ctx, db.Write(), func(tx *sql.Tx) error { … })
//	row := db.Read().QueryRowContext(ctx, `select … where id = $1`, id)
//
// Habits: several packages may share one database file; each has its own prefix for tables and its own version table.
// Placeholders are $1, $2 … (SQLite and PostgreSQL read both). Times are integers (Unix seconds or microseconds). Text
// that is a key and is sorted by bytes needs nothing in SQLite; in PostgreSQL its column is `text collate "C"`. Upserts
// are `insert … on conflict (…) do update set …`. A transaction that writes goes through [DB.Write] alone: with SQLite that pool
// has one connection, so writers queue in Go, in order, and never meet SQLITE_BUSY; therefore never ask Write for a second
// connection inside InTx (use tx), and do nothing slow in there.
//
// PostgreSQL has several writers, also of other processes: a transaction that reads what it then writes locks first, by a row that
// all who write take (`select … for update`). A connection runs one query at a time, so inside a transaction no iterator stays open
// while something else is asked. Text holds no NUL and is UTF-8. Many statements go in one piece (sqldb.Batch). Each dialect's
// migrations lie in a folder of its own.
package sqlx
