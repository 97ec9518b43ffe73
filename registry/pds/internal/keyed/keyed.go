// Package keyed keeps things by key in memory: what is believed for a while.
package keyed

import (
	"sync"
	"time"
)

// Memo is a map of what is believed for a while, with a bounded number of entries. Make it with [NewMemo]; safe for concurrent use.
type Memo[K comparable, V any] struct {
	mu    sync.Mutex
	m     map[K]entry[V]
	limit int
}

type entry[V any] struct {
	v     V
	until time.Time
}

// NewMemo makes a memo of at most limit entries.
func NewMemo[K comparable, V any](limit int) *Memo[K, V] {
	return &Memo[K, V]{m: map[K]entry[V]{}, limit: limit}
}

// Get returns what is believed at now of k, if anything.
func (m *Memo[K, V]) Get(k K, now time.Time) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.m[k]
	if !ok || !now.Before(e.until) {
		var zero V
		return zero, false
	}
	return e.v, true
}

// Put believes v of k until then. A full memo forgets another key.
func (m *Memo[K, V]) Put(k K, v V, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.m[k]; !ok && len(m.m) >= m.limit {
		for old := range m.m { // any: what falls out is only asked again
			delete(m.m, old)
			break
		}
	}
	m.m[k] = entry[V]{v, until}
}

// Drop forgets k.
func (m *Memo[K, V]) Drop(k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.m, k)
}
