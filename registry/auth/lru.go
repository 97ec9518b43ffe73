package auth

import "container/list"

// lru keeps the entries that were used last. Whoever has it locks it.
type lru[V any] struct {
	max   int
	byKey map[string]*list.Element // of lruEntry[V]
	order *list.List               // most recently used in front
}

type lruEntry[V any] struct {
	key   string
	value V
}

func newLRU[V any](limit int) *lru[V] {
	return &lru[V]{max: limit, byKey: map[string]*list.Element{}, order: list.New()}
}

// get returns an entry and counts that as a use.
func (l *lru[V]) get(key string) (v V, ok bool) {
	el, ok := l.byKey[key]
	if !ok {
		return v, false
	}
	l.order.MoveToFront(el)
	return el.Value.(lruEntry[V]).value, true
}

func (l *lru[V]) put(key string, v V) {
	if el, ok := l.byKey[key]; ok {
		el.Value = lruEntry[V]{key, v}
		l.order.MoveToFront(el)
		return
	}
	l.byKey[key] = l.order.PushFront(lruEntry[V]{key, v})
	for l.order.Len() > l.max {
		delete(l.byKey, l.order.Remove(l.order.Back()).(lruEntry[V]).key)
	}
}

func (l *lru[V]) drop(key string) {
	if el, ok := l.byKey[key]; ok {
		l.order.Remove(el)
		delete(l.byKey, key)
	}
}
