package oauth

import (
	"errors"
	"sync"
	"time"
)

const (
	tooSoon    = 5 * time.Second // after a refresh that failed, and twice as long after the next
	latest     = time.Minute
	longest    = time.Hour // that a server can ask to wait
	maxPauses  = 10_000
	saveAnyway = time.Second
)

// renewals are the refreshes under way in this process, and when those that failed may be tried again. The zero value is ready.
type renewals struct {
	mu     sync.Mutex
	flying map[string]*flight // by the grant's id
	paused map[string]pause
}

// flight is a refresh, for all who wait for it.
type flight struct {
	began time.Time
	done  chan struct{} // closed when g and err are set
	g     *grant        // not to be changed
	err   error
}

type pause struct {
	until time.Time
	err   *Error
	tries int
}

// join returns the refresh of a grant that is under way, or begins one.
func (r *renewals) join(id string, refresh func() (*grant, error)) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flying[id]; f != nil {
		return f
	}
	f := &flight{began: time.Now(), done: make(chan struct{})}
	if r.flying == nil {
		r.flying = map[string]*flight{}
	}
	r.flying[id] = f
	go func() {
		defer close(f.done)
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.flying, id)
		}()
		f.g, f.err = refresh()
	}()
	return f
}

// idle waits until no refresh is under way.
func (r *renewals) idle() {
	for {
		f := r.any()
		if f == nil {
			return
		}
		<-f.done
	}
}

func (r *renewals) any() *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.flying {
		return f
	}
	return nil
}

// wait keeps others from trying again at once, and returns the error that they get meanwhile.
func (r *renewals) wait(id string, err *Error, now time.Time) *Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paused == nil {
		r.paused = map[string]pause{}
	}
	p := r.paused[id]
	for other := range r.paused { // one that is forgotten costs a request, no more
		if len(r.paused) < maxPauses {
			break
		}
		delete(r.paused, other)
	}
	p.err, p.tries = err, p.tries+1
	d := min(tooSoon<<min(p.tries-1, 8), latest)
	if r := (*refused)(nil); errors.As(err.Err, &r) && r.retryAfter > 0 {
		d = min(r.retryAfter, longest)
	}
	p.until = now.Add(d)
	r.paused[id] = p
	return p.now(now)
}

// waits returns the error of the last try while it is too soon for the next, else nil.
func (r *renewals) waits(id string, now time.Time) *Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.paused[id]
	if !ok || !now.Before(p.until) {
		return nil
	}
	return p.now(now)
}

func (p pause) now(now time.Time) *Error {
	e := *p.err
	e.RetryAfter = max(p.until.Sub(now), time.Second)
	return &e
}

// gaveUp reports whether a refresh failed more than a few times, so that it is no use to try again by itself before an hour is over.
func (r *renewals) gaveUp(id string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.paused[id]
	return ok && p.tries > 3 && now.Before(p.until.Add(longest))
}

// done forgets what failed before.
func (r *renewals) done(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.paused, id)
}

// unsaved are grants whose new tokens could not be stored. The zero value is ready.
type unsaved struct {
	mu   sync.Mutex
	byID map[string]*unsavedGrant
}

type unsavedGrant struct {
	g     *grant
	tried time.Time
}

func (u *unsaved) put(g *grant) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byID == nil {
		u.byID = map[string]*unsavedGrant{}
	}
	u.byID[g.id] = &unsavedGrant{g, time.Now()}
}

// get returns a grant, not to be changed, or nil.
func (u *unsaved) get(id string) *grant {
	u.mu.Lock()
	defer u.mu.Unlock()
	if x := u.byID[id]; x != nil {
		return x.g
	}
	return nil
}

// turn reports whether it is time to try again.
func (u *unsaved) turn(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	x := u.byID[id]
	if x == nil || time.Since(x.tried) < saveAnyway {
		return false
	}
	x.tried = time.Now()
	return true
}

// drop forgets a grant, unless a newer generation is kept.
func (u *unsaved) drop(g *grant) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if x := u.byID[g.id]; x != nil && x.g.generation <= g.generation {
		delete(u.byID, g.id)
	}
}

// take returns a grant and forgets it, or nil.
func (u *unsaved) take(id string) *grant {
	u.mu.Lock()
	defer u.mu.Unlock()
	x := u.byID[id]
	delete(u.byID, id)
	if x == nil {
		return nil
	}
	return x.g
}

func (u *unsaved) all() (all []*grant) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, x := range u.byID {
		all = append(all, x.g)
	}
	return all
}
