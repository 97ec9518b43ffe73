package pds

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/keyed"
)

const (
	listPages  = 100                   // pages of one run of a listing
	writeFor   = 30 * time.Millisecond // of one transaction: others wait for the writer
	someRows   = 200                   // rows that are written or deleted at a time
	listSweep  = "sweep"               // stands for a collection when all were listed: what was not seen again goes
	refusedFor = time.Hour             // how long an owner is not listed again who has too much
)

// Limits of what is kept of owners' records; see [Options].
type limits struct {
	ownerRecords, ownerBytes int64
}

// lister brings owners' copies to what their PDSes list, in small steps: each page is a place where it can go on later.
type lister struct {
	db      *sqlx.DB
	servers servers
	limits  limits
	room    *room
	clock   func() time.Time
	log     *slog.Logger

	skipped atomic.Int64                  // records that broke their lexicon
	told    *keyed.Memo[string, struct{}] // owners of whom a skipped record was logged lately
}

// list reads up to listPages pages, manifests before tags so that no tag is seen before what it points to, and
// stamps the copy when it came to the end. Errors: registry.ErrDenied for an owner who has more than is kept.
func (l *lister) list(ctx context.Context, o owner, row ownerRow, now int64) (ownerRow, error) {
	for range listPages {
		var err error
		if row.ListCollection == listSweep {
			return l.finish(ctx, row, now)
		}
		if row, err = l.page(ctx, o, row, now); err != nil {
			return row, err
		}
	}
	if row.ListCollection == listSweep {
		return l.finish(ctx, row, now)
	}
	e := registry.ErrUnavailable.With("the records of this account are still being listed: try again")
	e.RetryAfter = time.Second
	return row, e
}

// page lists one page and writes it.
func (l *lister) page(ctx context.Context, o owner, row ownerRow, now int64) (ownerRow, error) {
	p := l.servers.of(o)
	answer, err := p.listRecords(ctx, o.DID, row.ListCollection, row.ListCursor)
	if err != nil {
		return row, err
	}
	defer answer.Close()
	w := &pageWriter{l: l, row: row, saved: row, now: now, page: answer, done: func() {}}
	w.row.Touched = l.clock().Unix()
	defer func() { w.done() }()
	err = w.write(ctx)
	grown := w.saved.taken() - row.taken()
	if why := (tooMuch{}); errors.As(err, &why) {
		l.room.total.Add(grown) // which is then dropped
		return l.refuse(ctx, w.saved, why)
	}
	if err != nil {
		// What was written stays, and takes room also when the one who asked is gone.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		return w.saved, errors.Join(err, l.room.took(ctx, o.DID, grown))
	}
	return w.saved, l.room.took(ctx, o.DID, grown)
}

// finish drops what the listing no longer saw, and stamps the copy.
func (l *lister) finish(ctx context.Context, row ownerRow, now int64) (ownerRow, error) {
	if err := sweep(ctx, l.db, row.DID, row.Gen+1); err != nil {
		return row, fmt.Errorf("write the copy of %s: %w", row.DID, err)
	}
	next := row
	next.Rev, next.Head, next.Checked, next.Complete = row.ListRev, row.ListHead, now, true
	next.Gen++
	next.ListCollection, next.ListCursor, next.ListRev, next.ListHead = "", "", "", ""
	next.Records, next.Bytes, next.ListRecords, next.ListBytes = row.ListRecords, row.ListBytes, 0, 0
	next.Touched = l.clock().Unix()
	var err error
	if next.LayerBytes, err = l.countLayers(ctx, row.DID); err != nil {
		return row, err
	}
	if err := saveOwner(ctx, l.db, next); err != nil {
		return row, err
	}
	return next, l.room.took(ctx, row.DID, next.taken()-row.taken())
}

// countLayers returns what the layers of an owner take.
func (l *lister) countLayers(ctx context.Context, did string) (int64, error) {
	var n int64
	err := l.db.Read().QueryRowContext(ctx, `select count(*) from pds_layer where owner = $1`, did).Scan(&n)
	return n * layerBytes, sqlx.Wrap(err)
}

// refuse forgets the records of an owner who has more than is kept, and remembers that.
func (l *lister) refuse(ctx context.Context, row ownerRow, why tooMuch) (ownerRow, error) {
	// What was taken goes, also when the one who asked does.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	l.log.Info("an account has more records than are kept", "did", row.DID, "limit", why.key, "is", why.limit)
	next := ownerRow{DID: row.DID, Gen: row.Gen + 1, Touched: l.clock().Unix(), Refused: why.text(), RefusedAt: l.clock().Unix()}
	if err := l.room.drop(ctx, next); err != nil {
		return row, err
	}
	return next, next.refusal(l.clock())
}

// over reports whether more is kept of an owner than may be.
func (l *lister) over(row ownerRow) bool {
	return row.Records > l.limits.ownerRecords || row.Bytes+row.LayerBytes > l.limits.ownerBytes
}

// mayKeep returns an error when so many layers more are too much for an owner, and makes room for them otherwise.
func (l *lister) mayKeep(ctx context.Context, did string, layers int) error {
	row, err := readOwner(ctx, l.db.Read(), did)
	if err != nil {
		return err
	}
	row.LayerBytes += int64(layers) * layerBytes
	if row.Bytes+row.LayerBytes > l.limits.ownerBytes {
		row.Refused, row.RefusedAt = tooMuch{"pds.owner_bytes", l.limits.ownerBytes}.text(), l.clock().Unix()
		return row.refusal(l.clock())
	}
	return l.room.took(ctx, did, int64(layers)*layerBytes)
}

// tooMuch is the error of a listing that came over a limit.
type tooMuch struct {
	key   string
	limit int64
}

func (e tooMuch) text() string { return fmt.Sprintf("%s, %d", e.key, e.limit) }

func (e tooMuch) Error() string { return "more than " + e.text() }

// pageWriter writes the records of one page, in transactions that are short. Each writes the owner's row, too, so that what a page wrote
// is counted if it never comes to its end.
type pageWriter struct {
	l      *lister
	row    ownerRow // counts the bytes of what was written
	saved  ownerRow // as it is in the database
	listed int64    // records of the page, which count when it is whole: it may be tried again
	now    int64
	do     []func(context.Context, *sql.Tx) error
	n      int // rows that do writes, about

	page  page
	done  func()    // ends the turn of a long page
	since time.Time // of the turn
}

// write writes the page, and where to go on after it.
func (w *pageWriter) write(ctx context.Context) error {
	if err := w.turn(ctx); err != nil {
		return err
	}
	cursor, err := w.page.records(w.row.ListCursor, func(r record) error { return w.add(ctx, r) })
	if err != nil {
		return err
	}
	end := position{w.row.ListCollection, cursor}
	switch {
	case cursor != "":
	case w.row.ListCollection == atcr.NSIDManifest:
		end.collection = atcr.NSIDTag
	default:
		end.collection = listSweep
	}
	if err := w.flush(ctx, &end); err != nil {
		return err
	}
	return w.within()
}

// turn lets others have theirs, whose first page goes before later ones.
func (w *pageWriter) turn(ctx context.Context) error {
	w.done()
	w.done = func() {}
	release, err := w.page.Turn(ctx, w.row.ListRecords < pageSize)
	if err != nil {
		return noPlace(w.page.base, methodListRecords, err)
	}
	w.done, w.since = release, time.Now()
	return nil
}

func (w *pageWriter) add(ctx context.Context, r record) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	did, collection := w.row.DID, w.row.ListCollection
	w.listed++
	rkey, ok := strings.CutPrefix(r.URI, "at://"+did+"/"+collection+"/")
	if !ok || len(rkey) > 512 || len(r.CID) > 128 {
		w.l.skip(did, collection, r.URI, errors.New("it lies in another repository or collection"))
		return w.within()
	}
	_, err := syntax.ParseRecordKey(rkey)
	if err == nil && strings.Contains(r.CID, "\x00") {
		err = errNoText
	}
	switch {
	case err != nil: // no PDS has it; PostgreSQL would refuse the whole page
	case collection == atcr.NSIDManifest:
		var m manifestRow
		if m, err = readManifest(rkey, r.CID, r.Value); err == nil && strings.Contains(m.MediaType, "\x00") {
			err = errNoText
		}
		if err == nil {
			w.manifest(m)
		}
	default:
		var t tagRow
		if t, err = readTag(did, rkey, r.CID, r.Value); err == nil {
			w.tag(t)
		}
	}
	if err != nil {
		w.l.skip(did, collection, rkey, err)
	}
	if err := w.within(); err != nil {
		return err
	}
	if w.n >= someRows {
		return w.flush(ctx, nil)
	}
	if time.Since(w.since) > writeFor {
		return w.turn(ctx)
	}
	return nil
}

// within returns an error when the owner has more than is kept: records that were listed, bytes that were written.
func (w *pageWriter) within() error {
	switch lim := w.l.limits; {
	case w.row.ListRecords+w.listed > lim.ownerRecords:
		return tooMuch{"pds.owner_records", lim.ownerRecords}
	case w.row.ListBytes+w.row.LayerBytes > lim.ownerBytes:
		return tooMuch{"pds.owner_bytes", lim.ownerBytes}
	}
	return nil
}

func (w *pageWriter) tag(t tagRow) {
	did, gen := w.row.DID, w.row.Gen+1
	w.put(1, func(ctx context.Context, tx *sql.Tx) error {
		again, err := tagListed(ctx, tx, did, gen, t)
		if err != nil {
			return err
		}
		if !again {
			w.row.ListBytes += t.bytes(did)
		}
		return writeTag(ctx, tx, did, gen, t)
	})
}

// manifest writes a record, and its layers when they are wanted, which it then says.
func (w *pageWriter) manifest(m manifestRow) {
	did, gen := w.row.DID, w.row.Gen+1
	layers := m.Layers
	if m.Layers = nil; len(layers) > 0 {
		m.LayersKnown = false
	}
	fresh := false
	keep := len(layers) > 0 && w.row.Layers
	w.put(1, func(ctx context.Context, tx *sql.Tx) (err error) {
		var again bool // written by an earlier try
		if again, fresh, err = putManifest(ctx, tx, did, gen, m); err != nil {
			return err
		}
		if !again {
			w.row.ListBytes += m.bytes(did)
		}
		if !fresh || !keep {
			return nil
		}
		n, err := layersWritten(ctx, tx, did, m) // likewise
		w.row.LayerBytes -= n * layerBytes
		return err
	})
	if !keep {
		return
	}
	for some := range slices.Chunk(layers, someRows) {
		w.put(len(some), func(ctx context.Context, tx *sql.Tx) error {
			if !fresh {
				return nil
			}
			w.row.LayerBytes += int64(len(some)) * layerBytes
			return writeLayers(ctx, tx, did, m.Repository, m.Digest, m.Hold, w.now, some)
		})
	}
	w.put(1, func(ctx context.Context, tx *sql.Tx) error {
		if !fresh {
			return nil
		}
		return knowLayers(ctx, tx, did, m)
	})
}

func (w *pageWriter) put(rows int, f func(context.Context, *sql.Tx) error) {
	w.do, w.n = append(w.do, f), w.n+rows
}

// position is where a listing goes on.
type position struct{ collection, cursor string }

// flush writes what was put; at the end of a page with where the next one begins.
func (w *pageWriter) flush(ctx context.Context, end *position) error {
	for len(w.do) > 0 || end != nil {
		done, before, saved := 0, w.row, w.row
		err := sqlx.InTx(ctx, w.l.db.Write(), func(tx *sql.Tx) error {
			for start := time.Now(); done < len(w.do) && time.Since(start) < writeFor; done++ {
				if err := w.do[done](ctx, tx); err != nil {
					return err
				}
			}
			if saved = w.row; done == len(w.do) && end != nil {
				saved.ListCollection, saved.ListCursor = end.collection, end.cursor
				saved.ListRecords += w.listed
			}
			return writeOwner(ctx, tx, saved)
		})
		if err != nil {
			w.row = before
			return fmt.Errorf("write the copy of %s: %w", w.row.DID, err)
		}
		w.saved = saved
		if w.do = w.do[done:]; len(w.do) == 0 && end != nil {
			return nil
		}
		if err := w.turn(ctx); err != nil {
			return err
		}
	}
	w.do, w.n = nil, 0
	return nil
}

// errNoText: PostgreSQL keeps no NUL.
var errNoText = errors.New("a text has a NUL in it")

// skip counts a record that is no use, and logs one of an owner an hour.
func (l *lister) skip(did, collection, rkey string, why error) {
	l.skipped.Add(1)
	now := l.clock()
	if _, ok := l.told.Get(did, now); ok {
		return
	}
	l.told.Put(did, struct{}{}, now.Add(time.Hour))
	l.log.Info("record skipped; others of this account are counted only",
		"did", did, "collection", collection, "rkey", clip(rkey), "why", clip(why.Error()))
}
