package hold

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/repo"
)

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

// getObject reads a record of our repository. Errors: repo.ErrNotFound.
func (s *Server) getObject(ctx context.Context, collection, rkey string) (object, repo.CID, error) {
	rec, err := s.repo.Get(ctx, collection, rkey)
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
func (s *Server) update(ctx context.Context, collection, rkey string, f func(o object, exists bool) bool) (repo.Result, bool, error) {
	for try := 0; ; try++ {
		o, cid, err := s.getObject(ctx, collection, rkey)
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
		commit, err := s.apply(ctx, []repo.Write{w})
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
func (s *Server) apply(ctx context.Context, writes []repo.Write, guards ...repo.Guard) (repo.Commit, error) {
	var people, layers bool
	for _, w := range writes {
		people = people || w.Collection == atcr.NSIDCrew || w.Collection == atcr.NSIDCaptain
		layers = layers || w.Collection == atcr.NSIDLayer
	}
	if people {
		s.peopleMu.Lock()
		defer s.peopleMu.Unlock()
	}
	if layers {
		s.layersMu.Lock()
		defer s.layersMu.Unlock()
	}
	commit, err := s.repo.Apply(ctx, writes, guards...)
	if err != nil {
		return commit, err
	}
	for i, res := range commit.Results {
		if err := s.follow(res, writes[i].Record); err != nil {
			s.log.Warn("a record that was written can't be read", "collection", res.Collection, "rkey", res.RKey, "error", err)
		}
	}
	if layers {
		s.reach(layerPoint(writes))
		s.followLayers(context.WithoutCancel(ctx), commit, writes)
	}
	return commit, nil
}

func layerPoint(writes []repo.Write) string {
	for _, w := range writes {
		if w.Collection == atcr.NSIDLayer && w.Action != repo.Delete {
			return crashpoint.LayersRecorded
		}
	}
	return crashpoint.LayersRemoved
}

// follow keeps captain and crew in memory.
func (s *Server) follow(res repo.Result, value []byte) error {
	var js []byte
	if res.Action != repo.Delete {
		var err error
		if js, err = repo.RecordToJSON(value); err != nil {
			return err
		}
	}
	switch {
	case res.Collection == atcr.NSIDCrew:
		return s.access.setCrew(res.RKey, js)
	case res.Collection == atcr.NSIDCaptain && js != nil:
		return s.access.setCaptain(js)
	}
	return nil
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
