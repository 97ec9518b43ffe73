package identity

import (
	"container/list"
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/atcr-dev/atcr/internal/httpx"
)

const (
	askTimeout = 20 * time.Second // for one question to the network, whoever still waits for it
	staleWait  = 3 * time.Second  // how long an asker waits for news when an older answer would serve
	retryAfter = 10 * time.Second // after a question that failed, while an older answer serves
	retrySoon  = time.Second      // when there is none: who was asked may just be starting
)

type memoRules struct {
	ttl, negative, stale time.Duration
	max                  int
	clock                func() time.Time
	patience, staleWait  time.Duration // 0: askTimeout and staleWait
}

// memo remembers answers of a function: bounded, least recently used out first; one question for many askers; "there is
// none" for a while; and the last answer while questions fail. Keys without an answer have a list of their own: untrusted users
// who ask for names that nobody has can't drive out those that somebody has.
type memo[V any] struct {
	memoRules
	ask    func(ctx context.Context, key string) (V, error)
	flight singleflight.Group

	mu    sync.Mutex
	byKey map[string]*list.Element // of *remembered[V]
	order *list.List               // those that are known, most recently used in front
	none  *list.List               // the others
}

type remembered[V any] struct {
	key    string
	val    V
	known  bool      // val is an answer
	listed bool      // known, by the list it is in
	asked  time.Time // when val was true
	err    error     // answered when val is not known or too old
	next   time.Time // when to ask again; until then this stands
	must   bool      // expired by a caller: wait for news
	forced time.Time // of the last expireOncePer that took effect
	epoch  int       // an answer to an older question than the last expire is not kept
}

func newMemo[V any](rules memoRules, ask func(context.Context, string) (V, error)) *memo[V] {
	if rules.patience == 0 {
		rules.patience, rules.staleWait = askTimeout, staleWait
	}
	return &memo[V]{memoRules: rules, ask: ask, byKey: map[string]*list.Element{}, order: list.New(), none: list.New()}
}

func (m *memo[V]) get(ctx context.Context, key string) (V, error) {
	m.mu.Lock()
	e := m.entry(key)
	now := m.clock()
	if now.Before(e.next) {
		v, err := m.answer(e, now)
		m.mu.Unlock()
		return v, err
	}
	usable := e.known && !e.must && now.Sub(e.asked) < m.stale
	epoch := e.epoch
	m.mu.Unlock()

	wait := m.flight.DoChan(key, func() (any, error) {
		if v, err, ok := m.answered(key); ok {
			return v, err // an earlier flight landed between our look and this take-off
		}
		ctx, cancel := context.WithTimeout(httpx.Shared(context.WithoutCancel(ctx)), m.patience)
		defer cancel()
		v, err := m.ask(ctx, key)
		return m.keep(key, epoch, v, err)
	})
	var patience <-chan time.Time
	if usable {
		t := time.NewTimer(m.staleWait)
		defer t.Stop()
		patience = t.C
	}
	select {
	case r := <-wait:
		return r.Val.(V), r.Err
	case <-patience:
	case <-ctx.Done():
		var zero V
		return zero, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answer(m.entry(key), m.clock())
}

// answered gives the answer that stands, if one does.
func (m *memo[V]) answered(key string) (v V, err error, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.byKey[key]; !ok {
		return v, nil, false
	}
	e, now := m.entry(key), m.clock()
	if !now.Before(e.next) {
		return v, nil, false
	}
	v, err = m.answer(e, now)
	return v, err, true
}

// keep remembers an answer, and gives the one that stands now.
func (m *memo[V]) keep(key string, epoch int, v V, err error) (V, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, now := m.entry(key), m.clock()
	if e.epoch != epoch && e.known {
		return m.answer(e, now)
	}
	e.must = false
	switch {
	case err == nil:
		e.val, e.known, e.asked, e.err, e.next = v, true, now, nil, now.Add(m.ttl)
	case definite(err):
		var zero V
		e.val, e.known, e.err, e.next = zero, false, err, now.Add(m.negative)
	default:
		wait := retryAfter
		if !e.known || now.Sub(e.asked) >= m.stale {
			wait = retrySoon
		}
		e.err, e.next = err, now.Add(wait)
	}
	m.place(e)
	return m.answer(e, now)
}

// answer is called with the lock held.
func (m *memo[V]) answer(e *remembered[V], now time.Time) (V, error) {
	if e.known && (e.err == nil || now.Sub(e.asked) < m.stale) {
		return e.val, nil
	}
	var zero V
	if e.err == nil {
		return zero, ErrDIDResolutionFailed // evicted while we waited
	}
	return zero, e.err
}

// entry finds or makes the entry of a key and moves it to the front. The lock is held.
func (m *memo[V]) entry(key string) *remembered[V] {
	if el, ok := m.byKey[key]; ok {
		e := el.Value.(*remembered[V])
		m.list(e).MoveToFront(el) // of the list that it is in: see place
		return e
	}
	e := &remembered[V]{key: key}
	m.push(e)
	return e
}

func (m *memo[V]) list(e *remembered[V]) *list.List {
	if e.listed {
		return m.order
	}
	return m.none
}

// place puts an entry into the list that it now belongs to. The lock is held.
func (m *memo[V]) place(e *remembered[V]) {
	el, ok := m.byKey[e.key]
	if e.listed == e.known || !ok {
		return
	}
	m.list(e).Remove(el)
	e.listed = e.known
	m.push(e)
}

func (m *memo[V]) push(e *remembered[V]) {
	l := m.list(e)
	m.byKey[e.key] = l.PushFront(e)
	for l.Len() > m.max {
		delete(m.byKey, l.Remove(l.Back()).(*remembered[V]).key)
	}
}

// peek returns what is known, however old, without asking.
func (m *memo[V]) peek(key string) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if el, found := m.byKey[key]; found {
		e := el.Value.(*remembered[V])
		return e.val, e.known
	}
	return v, false
}

// expire makes the next get ask.
func (m *memo[V]) expire(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if el, ok := m.byKey[key]; ok {
		m.expireEntry(el.Value.(*remembered[V]))
	}
}

// expireOncePer is expire, at most once in a period for a key.
func (m *memo[V]) expireOncePer(key string, period time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, now := m.entry(key), m.clock()
	if now.Sub(e.forced) < period || now.Sub(e.asked) < time.Second && e.known {
		return
	}
	e.forced = now
	m.expireEntry(e)
}

func (m *memo[V]) expireEntry(e *remembered[V]) {
	e.next, e.must = time.Time{}, true
	e.epoch++
	m.flight.Forget(e.key)
}
