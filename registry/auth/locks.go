package auth

import (
	"context"
	"sync"
)

// keyedLocks is a mutex per key, which exists while somebody holds or wants it.
type keyedLocks struct {
	mu    sync.Mutex
	byKey map[string]*keyedLock
}

type keyedLock struct {
	held    chan struct{} // of capacity 1: full while held
	waiting int
}

func newKeyedLocks() *keyedLocks { return &keyedLocks{byKey: map[string]*keyedLock{}} }

// lock waits for the key's lock, and returns how to let go of it.
func (k *keyedLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	l, ok := k.byKey[key]
	if !ok {
		l = &keyedLock{held: make(chan struct{}, 1)}
		k.byKey[key] = l
	}
	l.waiting++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.waiting--; l.waiting == 0 {
			delete(k.byKey, key)
		}
	}
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
