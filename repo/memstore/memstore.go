// Package memstore is a repo.Store in memory, for tests and programs that keep nothing.
package memstore

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/atcr-dev/atcr/repo"
)

// Store keeps one repository in memory. Safe for concurrent use; a View holds up Updates. The zero value is not
// usable: see [New].
type Store struct {
	writer sync.Mutex   // one Update at a time
	mu     sync.RWMutex // guards what follows
	state
}

type state struct {
	head    *repo.Head
	records map[string]repo.StoredRecord
	paths   []string // of records, sorted
	nodes   map[repo.Place]repo.Node
	places  []repo.Place // of nodes, sorted
	blobs   map[repo.CID]repo.StoredBlob
	refs    map[string][]repo.BlobRef // by path
	events  []repo.Event
}

// New makes an empty store.
func New() *Store {
	return &Store{state: state{
		records: map[string]repo.StoredRecord{},
		nodes:   map[repo.Place]repo.Node{},
		blobs:   map[repo.CID]repo.StoredBlob{},
		refs:    map[string][]repo.BlobRef{},
	}}
}

// Shared implements [repo.Store]: nobody else has it.
func (s *Store) Shared() bool { return false }

// Read implements [repo.Store].
func (s *Store) Read(ctx context.Context) repo.Reader { return reader{ctx, s, s.locked} }

// View implements [repo.Store].
func (s *Store) View(ctx context.Context, f func(repo.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	seen := &Store{}
	s.mu.RLock()
	seen.state = s.state.clone() // so that nobody who writes waits for f
	s.mu.RUnlock()
	return f(reader{ctx, seen, unlocked})
}

// Update implements [repo.Store].
func (s *Store) Update(ctx context.Context, f func(repo.Reader) (*repo.Changes, error)) error {
	s.writer.Lock()
	defer s.writer.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := f(reader{ctx, s, unlocked}) // nobody else changes anything
	if err != nil || c == nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apply(c)
	return nil
}

// Bulk implements [repo.Store].
func (s *Store) Bulk(ctx context.Context, f func(repo.Reader, func(*repo.Changes) error) error) error {
	s.writer.Lock()
	defer s.writer.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	next := &Store{state: s.state.clone()}
	err := f(reader{ctx, next, unlocked}, func(c *repo.Changes) error {
		next.apply(c)
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = next.state
	return nil
}

func (s *state) clone() state {
	c := *s
	c.records, c.nodes, c.blobs, c.refs = maps.Clone(s.records), maps.Clone(s.nodes), maps.Clone(s.blobs), maps.Clone(s.refs)
	c.paths, c.places, c.events = slices.Clone(s.paths), slices.Clone(s.places), slices.Clone(s.events)
	for p, refs := range c.refs {
		c.refs[p] = slices.Clone(refs)
	}
	return c
}

func (s *Store) locked(f func() error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return f()
}

func unlocked(f func() error) error { return f() }

func comparePlaces(a, b repo.Place) int {
	if c := strings.Compare(a.Fence, b.Fence); c != 0 {
		return c
	}
	return b.Height - a.Height
}

func (s *state) apply(c *repo.Changes) {
	for _, b := range c.PutBlobs {
		if old, ok := s.blobs[b.CID]; ok {
			old.Created = b.Created
			b = old
		}
		b.Data = bytes.Clone(b.Data)
		s.blobs[b.CID] = b
	}
	for _, r := range c.PutRecords {
		r.Value = bytes.Clone(r.Value)
		if i, ok := slices.BinarySearch(s.paths, r.Path); !ok {
			s.paths = slices.Insert(s.paths, i, r.Path)
		}
		s.records[r.Path] = r
	}
	for _, p := range c.DropRecords {
		if i, ok := slices.BinarySearch(s.paths, p); ok {
			s.paths = slices.Delete(s.paths, i, i+1)
		}
		delete(s.records, p)
	}
	s.applyRefs(c)
	for _, n := range c.PutNodes {
		n.Data = bytes.Clone(n.Data)
		if i, ok := slices.BinarySearchFunc(s.places, n.Place, comparePlaces); !ok {
			s.places = slices.Insert(s.places, i, n.Place)
		}
		s.nodes[n.Place] = n
	}
	for _, at := range c.DropNodes {
		if i, ok := slices.BinarySearchFunc(s.places, at, comparePlaces); ok {
			s.places = slices.Delete(s.places, i, i+1)
		}
		delete(s.nodes, at)
	}
	s.events = append(s.events, c.Events...)
	if n := len(s.events) - c.KeepEvents; c.KeepEvents > 0 && n > 0 {
		s.events = slices.Clone(s.events[n:])
	}
	if c.Head != nil {
		h := *c.Head
		s.head = &h
	}
}

func (s *state) applyRefs(c *repo.Changes) {
	var lost []repo.CID
	for _, p := range c.DropRefs {
		for _, r := range s.refs[p] {
			lost = append(lost, r.CID)
		}
		delete(s.refs, p)
	}
	for _, r := range c.AddRefs {
		if !slices.ContainsFunc(s.refs[r.Path], func(o repo.BlobRef) bool { return o.CID == r.CID }) {
			s.refs[r.Path] = append(s.refs[r.Path], r)
		}
	}
	for _, id := range lost {
		if s.countRefs(id) == 0 {
			delete(s.blobs, id)
		}
	}
	if c.PruneBlobs == 0 {
		return
	}
	for id, b := range s.blobs {
		if b.Created < c.PruneBlobs && s.countRefs(id) == 0 {
			delete(s.blobs, id)
		}
	}
}

func (s *state) countRefs(id repo.CID) (n int) {
	for _, refs := range s.refs {
		for _, r := range refs {
			if r.CID == id {
				n++
			}
		}
	}
	return n
}

type reader struct {
	ctx  context.Context
	s    *Store
	lock func(func() error) error
}

func (r reader) do(f func() error) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	return r.lock(f)
}

func (r reader) Head() (h repo.Head, err error) {
	err = r.do(func() error {
		if r.s.head == nil {
			return repo.ErrNotFound
		}
		h = *r.s.head
		return nil
	})
	return h, err
}

func get[K comparable, V any](r reader, m func() map[K]V, k K) (v V, err error) {
	err = r.do(func() error {
		var ok bool
		if v, ok = m()[k]; !ok {
			return repo.ErrNotFound
		}
		return nil
	})
	return v, err
}

func (r reader) Node(at repo.Place) (repo.Node, error) {
	return get(r, func() map[repo.Place]repo.Node { return r.s.nodes }, at)
}

func (r reader) Record(path string) (repo.StoredRecord, error) {
	rec, err := get(r, func() map[string]repo.StoredRecord { return r.s.records }, path)
	rec.Value = bytes.Clone(rec.Value)
	return rec, err
}

func (r reader) Blob(id repo.CID) (b repo.StoredBlob, err error) {
	b, err = get(r, func() map[repo.CID]repo.StoredBlob { return r.s.blobs }, id)
	if err == nil {
		err = r.do(func() error { b.Refs = r.s.countRefs(id); return nil })
	}
	b.Data = bytes.Clone(b.Data)
	return b, err
}

func (r reader) HasBlob(id repo.CID) (ok bool, err error) {
	err = r.do(func() error { _, ok = r.s.blobs[id]; return nil })
	return ok, err
}

// all yields what collect gathered under the lock.
func all[T any](r reader, collect func() []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var rows []T
		if err := r.do(func() error { rows = collect(); return nil }); err != nil {
			var zero T
			yield(zero, err)
			return
		}
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// Path implements [repo.Reader]: Node is cheap here.
func (r reader) Path(string, int) ([]repo.Node, error) { return nil, nil }

func (r reader) Nodes() iter.Seq2[repo.Node, error] {
	return all(r, func() []repo.Node {
		out := make([]repo.Node, len(r.s.places))
		for i, at := range r.s.places {
			out[i] = r.s.nodes[at]
		}
		return out
	})
}

func (r reader) Records(from, to string, reverse bool, limit int) iter.Seq2[repo.StoredRecord, error] {
	return all(r, func() []repo.StoredRecord {
		lo, _ := slices.BinarySearch(r.s.paths, from)
		hi := len(r.s.paths)
		if to != "" {
			hi, _ = slices.BinarySearch(r.s.paths, to)
		}
		paths := slices.Clone(r.s.paths[lo:max(lo, hi)])
		if reverse {
			slices.Reverse(paths)
		}
		if limit > 0 && limit < len(paths) {
			paths = paths[:limit]
		}
		out := make([]repo.StoredRecord, len(paths))
		for i, p := range paths {
			out[i] = r.s.records[p]
		}
		return out
	})
}

func (r reader) Blobs(after repo.CID, since repo.TID, limit int) iter.Seq2[repo.StoredBlob, error] {
	return all(r, func() []repo.StoredBlob {
		named := map[repo.CID]int{}
		for _, refs := range r.s.refs {
			for _, ref := range refs {
				if ref.Rev > since && bytes.Compare(ref.CID.Hash(), after.Hash()) > 0 || ref.Rev > since && !after.Defined() {
					named[ref.CID]++
				}
			}
		}
		var out []repo.StoredBlob
		for id := range named {
			if b, ok := r.s.blobs[id]; ok {
				b.Data, b.Refs = nil, r.s.countRefs(id)
				out = append(out, b)
			}
		}
		slices.SortFunc(out, func(a, b repo.StoredBlob) int { return bytes.Compare(a.CID.Hash(), b.CID.Hash()) })
		if limit > 0 && limit < len(out) {
			out = out[:limit]
		}
		return out
	})
}

func (r reader) Events(after int64, limit int) iter.Seq2[repo.Event, error] {
	return all(r, func() []repo.Event {
		i, _ := slices.BinarySearchFunc(r.s.events, after+1, func(e repo.Event, n int64) int { return int(e.Seq - n) })
		out := slices.Clone(r.s.events[i:])
		if limit > 0 && limit < len(out) {
			out = out[:limit]
		}
		return out
	})
}
