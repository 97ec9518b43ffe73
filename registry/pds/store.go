package pds

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/sqldb"
)

//go:embed migrations
var migrations embed.FS

// ownerRow says how far the copy of one owner's records is to be believed.
type ownerRow struct {
	DID       string
	Rev, Head string // of the owner's repository when the copy was true
	Checked   int64  // unix seconds at which Rev was last seen to be the newest
	Complete  bool   // a listing was finished once
	Gen       int64  // of the last finished listing
	// A listing that is under way: where to go on, and what it will be stamped with.
	ListCollection, ListCursor, ListRev, ListHead string
	// What the copy has, and what the listing under way has seen: records, and about how many bytes their rows take.
	Records, Bytes, ListRecords, ListBytes int64
	Layers                                 bool  // listings keep layers, too: a blob was asked for
	LayerBytes                             int64 // that their rows take, about
	Touched                                int64 // unix seconds at which it was last used
	// Refused says by which limit nothing is kept of the owner, since RefusedAt (unix seconds); empty: it is.
	Refused   string
	RefusedAt int64
}

// scanner is a row.
type scanner interface{ Scan(...any) error }

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func readOwner(ctx context.Context, q querier, did string) (ownerRow, error) {
	o := ownerRow{DID: did}
	err := q.QueryRowContext(ctx, `select rev, head, checked, complete, gen, list_collection, list_cursor, list_rev, list_head,
		records, bytes, list_records, list_bytes, layers, layer_bytes, touched, refused, refused_at
		from pds_owner where did = $1`, did).
		Scan(&o.Rev, &o.Head, &o.Checked, &o.Complete, &o.Gen, &o.ListCollection, &o.ListCursor, &o.ListRev, &o.ListHead,
			&o.Records, &o.Bytes, &o.ListRecords, &o.ListBytes, &o.Layers, &o.LayerBytes, &o.Touched, &o.Refused, &o.RefusedAt)
	if errors.Is(err, sql.ErrNoRows) {
		return o, nil
	}
	if err != nil {
		return o, fmt.Errorf("read the copy of %s: %w", did, sqlx.Wrap(err))
	}
	return o, nil
}

// number is how a column holds a truth value in either database.
func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

func writeOwner(ctx context.Context, tx *sql.Tx, o ownerRow) error {
	_, err := tx.ExecContext(ctx, `insert into pds_owner
		(did, rev, head, checked, complete, gen, list_collection, list_cursor, list_rev, list_head,
		records, bytes, list_records, list_bytes, layers, layer_bytes, touched, refused, refused_at)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
		on conflict (did) do update set rev = $2, head = $3, checked = $4, complete = $5, gen = $6,
		list_collection = $7, list_cursor = $8, list_rev = $9, list_head = $10, records = $11, bytes = $12, list_records = $13,
		list_bytes = $14, layers = $15, layer_bytes = $16, touched = $17, refused = $18, refused_at = $19`,
		o.DID, o.Rev, o.Head, o.Checked, number(o.Complete), o.Gen, o.ListCollection, o.ListCursor, o.ListRev, o.ListHead,
		o.Records, o.Bytes, o.ListRecords, o.ListBytes, number(o.Layers), o.LayerBytes, o.Touched, o.Refused, o.RefusedAt)
	return err
}

// writeManifest writes a record and its layers.
func writeManifest(ctx context.Context, tx *sql.Tx, owner string, gen, now int64, m manifestRow) error {
	_, fresh, err := putManifest(ctx, tx, owner, gen, m)
	if err != nil || !fresh {
		return err
	}
	if err := writeLayers(ctx, tx, owner, m.Repository, m.Digest, m.Hold, now, m.Layers); err != nil || !m.LayersKnown {
		return err
	}
	return knowLayers(ctx, tx, owner, m)
}

// putManifest writes a record without its layers. It reports whether the listing of this generation has written it already (again), and
// whether its layers are to be written, too (fresh).
func putManifest(ctx context.Context, tx *sql.Tx, owner string, gen int64, m manifestRow) (again, fresh bool, err error) {
	var cid string
	var was int64
	var known bool
	err = tx.QueryRowContext(ctx, `select cid, gen, layers_known from pds_manifest where owner = $1 and rkey = $2`, owner, m.RKey).
		Scan(&cid, &was, &known)
	again = err == nil && cid == m.CID && was == gen
	switch {
	case err == nil && cid == m.CID && cid != "":
		_, err = tx.ExecContext(ctx, `update pds_manifest set gen = $3 where owner = $1 and rkey = $2`, owner, m.RKey, gen)
		return again, !known, err
	case err == nil:
		if err := deleteManifest(ctx, tx, owner, m.RKey); err != nil {
			return again, false, err
		}
	case !errors.Is(err, sql.ErrNoRows):
		return again, false, err
	}
	_, err = tx.ExecContext(ctx, `insert into pds_manifest
		(owner, rkey, gen, cid, repository, digest, hold, media_type, size, blob, subject, layers_known)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		owner, m.RKey, gen, m.CID, m.Repository, string(m.Digest), m.Hold, m.MediaType, m.Size, m.Blob, string(m.Subject),
		number(m.LayersKnown))
	return again, true, err
}

// tagListed reports whether the listing of a generation has written a tag's record already.
func tagListed(ctx context.Context, tx *sql.Tx, owner string, gen int64, t tagRow) (bool, error) {
	var n int
	err := tx.QueryRowContext(ctx, `select count(*) from pds_tag where owner = $1 and rkey = $2 and cid = $3 and gen = $4`,
		owner, t.RKey, t.CID, gen).Scan(&n)
	return n > 0, err
}

// layersWritten returns how many layers of a manifest there are.
func layersWritten(ctx context.Context, tx *sql.Tx, owner string, m manifestRow) (n int64, err error) {
	err = tx.QueryRowContext(ctx, `select count(*) from pds_layer where owner = $1 and repository = $2 and manifest = $3`,
		owner, m.Repository, string(m.Digest)).Scan(&n)
	return n, err
}

// countLayers adds layers to what an owner's copy takes.
func countLayers(ctx context.Context, tx *sql.Tx, owner string, n int) error {
	_, err := tx.ExecContext(ctx, `update pds_owner set layer_bytes = layer_bytes + $2 where did = $1`, owner, n*layerBytes)
	return err
}

// knowLayers notes that all layers of a record were written.
func knowLayers(ctx context.Context, tx *sql.Tx, owner string, m manifestRow) error {
	_, err := tx.ExecContext(ctx, `update pds_manifest set layers_known = 1 where owner = $1 and rkey = $2 and cid = $3`,
		owner, m.RKey, m.CID)
	return err
}

// writeLayers remembers which hold the blobs of a manifest lie in.
func writeLayers(
	ctx context.Context, tx *sql.Tx, owner, repository string, manifest digest.Digest, hold string, now int64, layers []layer,
) error {
	for _, l := range layers {
		_, err := tx.ExecContext(ctx, `insert into pds_layer (owner, repository, digest, manifest, hold, size, seen)
			values ($1, $2, $3, $4, $5, $6, $7)
			on conflict (owner, repository, digest, manifest) do update set hold = $5, size = $6, seen = $7`,
			owner, repository, string(l.Digest), string(manifest), hold, l.Size, now)
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteManifest takes a record out of the copy, and what was known of its layers.
func deleteManifest(ctx context.Context, tx *sql.Tx, owner, rkey string) error {
	_, err := tx.ExecContext(ctx, `delete from pds_layer where owner = $1 and manifest <> '' and (repository, manifest) in
		(select m.repository, m.digest from pds_manifest m where m.owner = $1 and m.rkey = $2 and not exists
		(select 1 from pds_manifest o where o.owner = $1 and o.repository = m.repository and o.digest = m.digest and o.rkey <> $2))`,
		owner, rkey)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `delete from pds_manifest where owner = $1 and rkey = $2`, owner, rkey)
	return err
}

func writeTag(ctx context.Context, tx *sql.Tx, owner string, gen int64, t tagRow) error {
	_, err := tx.ExecContext(ctx, `insert into pds_tag (owner, rkey, gen, cid, repository, tag, manifest_rkey, digest, stamp, extra)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		on conflict (owner, rkey) do update set gen = $3, cid = $4, repository = $5, tag = $6, manifest_rkey = $7, digest = $8,
		stamp = $9, extra = $10, proved = case when $4 <> '' and pds_tag.cid = $4 and pds_tag.repository = $5 and pds_tag.tag = $6
		and pds_tag.manifest_rkey = $7 and pds_tag.digest = $8
		then pds_tag.proved else 0 end`,
		owner, t.RKey, gen, t.CID, t.Repository, t.Tag, t.ManifestRKey, string(t.Digest), t.Stamp, number(t.Extra))
	return err
}

func deleteTag(ctx context.Context, tx *sql.Tx, owner, rkey string) error {
	_, err := tx.ExecContext(ctx, `delete from pds_tag where owner = $1 and rkey = $2`, owner, rkey)
	return err
}

const manifestColumns = `rkey, cid, repository, digest, hold, media_type, size, blob, subject, layers_known, proved`

func scanManifest(row scanner) (manifestRow, error) {
	var m manifestRow
	err := row.Scan(
		&m.RKey, &m.CID, &m.Repository, &m.Digest, &m.Hold, &m.MediaType, &m.Size, &m.Blob, &m.Subject, &m.LayersKnown, &m.Proved,
	)
	return m, err
}

// manifestByDigest finds the record of a manifest in the copy. Of several, the one under the key we write.
func manifestByDigest(ctx context.Context, q querier, owner, repository string, d digest.Digest) (manifestRow, bool, error) {
	m, err := scanManifest(q.QueryRowContext(ctx, `select `+manifestColumns+` from pds_manifest
		where owner = $1 and repository = $2 and digest = $3
		order by case rkey when $4 then 0 when $5 then 1 else 2 end, rkey limit 1`,
		owner, repository, string(d), atcr.ManifestRKey(d), atcr.ManifestRKeyIn(repository, d)))
	return found(m, err)
}

func manifestByKey(ctx context.Context, q querier, owner, rkey string) (manifestRow, bool, error) {
	return found(scanManifest(q.QueryRowContext(ctx, `select `+manifestColumns+` from pds_manifest where owner = $1 and rkey = $2`,
		owner, rkey)))
}

const tagColumns = `rkey, cid, repository, tag, manifest_rkey, digest, stamp, extra, proved`

func scanTag(row scanner) (tagRow, error) {
	var t tagRow
	err := row.Scan(&t.RKey, &t.CID, &t.Repository, &t.Tag, &t.ManifestRKey, &t.Digest, &t.Stamp, &t.Extra, &t.Proved)
	return t, err
}

// tagByName finds the record of a tag; of several records for the pair the newest.
func tagByName(ctx context.Context, q querier, owner, repository, tag string) (tagRow, bool, error) {
	return found(scanTag(q.QueryRowContext(ctx, `select `+tagColumns+` from pds_tag where owner = $1 and repository = $2 and tag = $3
		order by stamp desc, rkey desc limit 1`, owner, repository, tag)))
}

func found[T any](v T, err error) (T, bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, sqlx.Wrap(err)
}

// resolveTag returns the manifest that a tag record points to: by its at-uri, else by the old digest field.
func resolveTag(ctx context.Context, q querier, owner string, t tagRow) (manifestRow, bool, error) {
	if t.ManifestRKey != "" {
		m, ok, err := manifestByKey(ctx, q, owner, t.ManifestRKey)
		if err != nil || ok && m.Repository == t.Repository {
			return m, ok, err
		}
	}
	if t.Digest != "" {
		return manifestByDigest(ctx, q, owner, t.Repository, t.Digest)
	}
	return manifestRow{}, false, nil
}

const queryTagsOf = `select ` + tagColumns + ` from pds_tag where owner = $1 and manifest_rkey = $3 and repository = $2
	union all select ` + tagColumns + ` from pds_tag where owner = $1 and repository = $2 and digest = $4 and manifest_rkey = ''`

// tagsOf lists the records of all tags that point to a manifest, and those of the same pairs that it shadows.
func tagsOf(ctx context.Context, q querier, owner string, m manifestRow) ([]tagRow, error) {
	return listRows(ctx, q, scanTag, queryTagsOf, owner, m.Repository, m.RKey, string(m.Digest))
}

// tagRecords lists all records of one pair.
func tagRecords(ctx context.Context, q querier, owner, repository, tag string) ([]tagRow, error) {
	return listRows(ctx, q, scanTag, `select `+tagColumns+` from pds_tag where owner = $1 and repository = $2 and tag = $3
		order by stamp desc, rkey desc`, owner, repository, tag)
}

// listRows returns all rows of a query.
func listRows[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, sqlx.Wrap(err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, sqlx.Wrap(err)
		}
		out = append(out, v)
	}
	return out, sqlx.Wrap(rows.Err())
}

func scanText(row scanner) (text string, err error) {
	err = row.Scan(&text)
	return text, err
}

// Migrate creates the tables pds_… in a database, or brings those of an earlier version to this one. [New] does it by itself.
func Migrate(ctx context.Context, db *sqldb.DB) error {
	folder, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return sqlx.Migrate(ctx, db, folder, "pds_version")
}

// manifestRecords lists all records of one manifest in a repository.
func manifestRecords(ctx context.Context, q querier, owner, repository string, d digest.Digest) ([]manifestRow, error) {
	return listRows(ctx, q, scanManifest, `select `+manifestColumns+` from pds_manifest
		where owner = $1 and repository = $2 and digest = $3 order by rkey limit 100`, owner, repository, string(d))
}
