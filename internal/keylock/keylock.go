// Package keylock has mutexes by name.
package keylock

import (
	"context"
	"sync"
)

// Locks are mutexes by name that exist only while someone holds or waits for them. The zero value is ready.
type Locks struct {
	mu   sync.Mutex
	keys map[string]*keyLock
}

type keyLock struct {
	ch    chan struct{} // holds one value while taken
	users int
}

// Lock waits for the key, or for the context.
func (k *Locks) Lock(ctx context.Context, key string) (unlock func(), err error) {
	l := k.use(key)
	select {
	case l.ch <- struct{}{}:
		return func() { <-l.ch; k.leave(key, l) }, nil
	case <-ctx.Done():
		k.leave(key, l)
		return nil, ctx.Err()
	}
}

// Try takes the key only when it is free.
func (k *Locks) Try(key string) (unlock func(), ok bool) {
	l := k.use(key)
	select {
	case l.ch <- struct{}{}:
		return func() { <-l.ch; k.leave(key, l) }, true
	default:
		k.leave(key, l)
		return nil, false
	}
}

func (k *Locks) use(key string) *keyLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.keys[key]
	if l == nil {
		l = &keyLock{ch: make(chan struct{}, 1)}
		if k.keys == nil {
			k.keys = map[string]*keyLock{}
		}
		k.keys[key] = l
	}
	l.users++
	return l
}

func (k *Locks) leave(key string, l *keyLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.keys, key)
	}
}
