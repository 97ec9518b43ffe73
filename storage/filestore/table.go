package filestore

import (
	"sync"
	"sync/atomic"

	"github.com/atcr-dev/atcr/storage"
)

// maxResting bounds the uploads that are remembered in memory alone, some 500 bytes each.
const maxResting = 16384

// table knows the uploads that are open in this process and those that rest in memory.
type table struct {
	mu      sync.Mutex
	entries map[string]*entry
	rests   int
	max     int                 // how many may rest in memory
	ended   map[string]struct{} // ids of earlier runs that ended in this one
}

type entry struct {
	size    atomic.Int64
	touched atomic.Int64 // unix nanoseconds
	rest    *upload      // nil while open
}

func (t *table) init() {
	t.entries = make(map[string]*entry)
	t.max = maxResting
	t.ended = make(map[string]struct{})
}

// claim makes the upload this caller's. rest is what Close left in memory, nil when it left nothing.
func (t *table) claim(id string) (e *entry, rest *upload, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.entries[id]
	switch {
	case !ok:
		e = new(entry)
		t.entries[id] = e
		return e, nil, nil
	case e.rest == nil:
		return nil, nil, storage.ErrUploadBusy
	}
	rest, e.rest = e.rest, nil
	t.rests--
	return e, rest, nil
}

// full says that memory keeps enough uploads.
func (t *table) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rests >= t.max
}

// keep releases the upload and remembers it in memory.
func (t *table) keep(u *upload) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u.e.rest = u
	t.rests++
}

// release closes the upload; what there is to know of it is on disk.
func (t *table) release(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.entries, id)
}

// end forgets the upload for good. An id of an earlier run must be remembered, since its MAC alone would revive it.
func (t *table) end(id string, thisRun bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.entries, id)
	if !thisRun && len(t.ended) < t.max {
		t.ended[id] = struct{}{}
	}
}

func (t *table) hasEnded(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.ended[id]
	return ok
}

// resting lists the ids at rest in memory.
func (t *table) resting() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := make([]string, 0, t.rests)
	for id, e := range t.entries {
		if e.rest != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// list gives the ids after the given one, in no order.
func (t *table) list(after string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []string
	for id := range t.entries {
		if id > after {
			ids = append(ids, id)
		}
	}
	return ids
}

func (t *table) get(id string) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entries[id]
}
