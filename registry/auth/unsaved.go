package auth

import (
	"context"
	"sync"
)

const maxUnsaved = 10_000

// unsaved keeps the tokens of sessions that could not be saved: on a full disk, say. The PDS has spent those of before, so they are used
// from here, and saved when that works again.
type unsaved struct {
	mu   sync.Mutex
	byID map[string]session
}

// put keeps a session, and reports whether there was room.
func (u *unsaved) put(e *session) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.byID[e.id]; !ok && len(u.byID) >= maxUnsaved {
		return false
	}
	if u.byID == nil {
		u.byID = map[string]session{}
	}
	u.byID[e.id] = *e
	return true
}

func (u *unsaved) get(id string) (e session, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e, ok = u.byID[id]
	return e, ok
}

func (u *unsaved) drop(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.byID, id)
}

func (u *unsaved) all() (all []session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.byID {
		all = append(all, e)
	}
	return all
}

// read returns a session as it is now, or nil.
func (s *Sessions) read(ctx context.Context, id string) (*session, error) {
	e, err := s.store.byID(ctx, id)
	if err != nil {
		return nil, err
	}
	newer, ok := s.unsaved.get(id)
	if !ok || e == nil || e.pds != newer.pds || e.checked.After(newer.checked) { // or it was dropped, or made anew by its password
		return e, nil
	}
	return &newer, nil
}

// save tries to save what could not be saved, each under the lock that refreshes take.
func (s *Sessions) save(ctx context.Context) {
	for _, e := range s.unsaved.all() {
		unlock, err := s.locks.Lock(ctx, e.did)
		if err != nil {
			return
		}
		now, err := s.read(ctx, e.id)
		if err == nil && now != nil {
			if newer, ok := s.unsaved.get(e.id); ok && now.tokens == newer.tokens {
				err = s.store.refreshed(ctx, now, now.checked)
			}
		}
		if err == nil {
			s.unsaved.drop(e.id)
		}
		unlock()
		if err != nil {
			return // and so it would be for the others
		}
	}
}
