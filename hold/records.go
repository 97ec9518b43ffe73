package hold

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/internal/ledger"
	"github.com/atcr-dev/atcr/repo"
)

// maxWrites keeps one commit, and its event, within what a firehose takes.
const maxWrites = 200

// records are the records of the hold's repository.
type records struct {
	repo   *repo.Repo
	ledger *ledger.Ledger // writes layer records
	access *access        // follows captain and crew
	log    *slog.Logger
}

// timestamp in the form of records.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// object is a record as JSON with all its fields, also those we know nothing of.
type object map[string]any

// decodeObject keeps whole numbers whole.
func decodeObject(value []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	o := object{}
	if err := dec.Decode(&o); err != nil {
		return nil, err
	}
	return o, nil
}

// set puts fields into o and names those that changed.
func (o object) set(fields object) (changed []string) {
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		was, _ := json.Marshal(o[k])
		is, _ := json.Marshal(fields[k])
		if _, there := o[k]; there && bytes.Equal(was, is) {
			continue
		}
		o[k] = fields[k]
		changed = append(changed, k)
	}
	return changed
}

// get reads a record of our repository. Errors: repo.ErrNotFound.
func (r *records) get(ctx context.Context, collection, rkey string) (object, repo.CID, error) {
	rec, err := r.repo.Get(ctx, collection, rkey)
	if err != nil {
		return nil, repo.CID{}, err
	}
	b, err := rec.JSON()
	if err != nil {
		return nil, repo.CID{}, fmt.Errorf("record %s/%s: %w", collection, rkey, err)
	}
	o, err := decodeObject(b)
	if err != nil {
		return nil, repo.CID{}, fmt.Errorf("record %s/%s: %w", collection, rkey, err)
	}
	return o, rec.CID, nil
}

// update changes one record by f, which gets an empty object when there is none and returns false when nothing is to be written. It
// is done again, a few times, when somebody was faster.
func (r *records) update(ctx context.Context, collection, rkey string, f func(o object, exists bool) bool) (repo.Result, bool, error) {
	for try := 0; ; try++ {
		o, cid, err := r.get(ctx, collection, rkey)
		exists := err == nil
		if errors.Is(err, repo.ErrNotFound) {
			o, err = object{"$type": collection}, nil
		}
		if err != nil {
			return repo.Result{}, false, err
		}
		if !f(o, exists) {
			return repo.Result{Collection: collection, RKey: rkey, CID: cid}, false, nil
		}
		value, err := repo.RecordFrom(o)
		if err != nil {
			return repo.Result{}, false, fmt.Errorf("record %s/%s: %w", collection, rkey, err)
		}
		w := repo.Write{Action: repo.Create, Collection: collection, RKey: rkey, Record: value}
		if exists {
			w.Action, w.Swap = repo.Update, cid
		}
		commit, err := r.apply(ctx, []repo.Write{w})
		if err == nil {
			return commit.Results[0], true, nil
		}
		raced := errors.Is(err, repo.ErrExists) || errors.Is(err, repo.ErrInvalidSwap) || errors.Is(err, repo.ErrNotFound)
		if !raced || try == 5 {
			return repo.Result{}, false, fmt.Errorf("write %s/%s: %w", collection, rkey, err)
		}
	}
}

// apply is the only way this package writes to its repository: what is kept in memory and in tables follows here. Changes that
// something follows are made one after the other, so that it follows in the same order; others share commits' fsyncs.
func (r *records) apply(ctx context.Context, writes []repo.Write, guards ...repo.Guard) (repo.Commit, error) {
	var people, layers bool
	for _, w := range writes {
		people = people || w.Collection == atcr.NSIDCrew || w.Collection == atcr.NSIDCaptain
		layers = layers || w.Collection == atcr.NSIDLayer
	}
	if people {
		r.access.writing.Lock()
		defer r.access.writing.Unlock()
	}
	write := r.repo.Apply
	if layers {
		write = r.ledger.Apply
	}
	commit, err := write(ctx, writes, guards...)
	if err != nil {
		return commit, err
	}
	for i, res := range commit.Results {
		if err := r.access.follow(res, writes[i].Record); err != nil {
			r.log.Warn("a record that was written can't be read", "collection", res.Collection, "rkey", res.RKey, "error", err)
		}
	}
	return commit, nil
}

// delete deletes records and returns how many.
func (r *records) delete(ctx context.Context, collection string, rkeys ...string) (done int, err error) {
	for part := range slices.Chunk(rkeys, maxWrites) {
		var writes []repo.Write
		for _, k := range part {
			writes = append(writes, repo.Write{Action: repo.Delete, Collection: collection, RKey: k})
		}
		if _, err := r.apply(ctx, writes); err != nil {
			return done, fmt.Errorf("delete %s records: %w", collection, err)
		}
		done += len(part)
	}
	return done, nil
}

// number reads a count; what is none, or negative, is 0.
func (o object) number(key string) int64 {
	n, ok := o[key].(json.Number)
	if !ok {
		return 0
	}
	v, err := n.Int64()
	if err != nil || v < 0 {
		return 0
	}
	return v
}

func encodeObject(o object) ([]byte, error) { return json.Marshal(o) }
