package holds

import (
	"context"
	"errors"
	"time"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/registry"
)

const (
	rightsWithin = 10 * time.Second // how long a hold may take to tell rights
	patience     = 2 * time.Second  // how long a question keeps others waiting, and those who know an older answer
	silentAfter  = time.Second      // who fails after this has kept somebody waiting
	silentFor    = 5 * time.Second  // how long a silent hold is not asked again
	silenceKept  = 10 * time.Minute // how long it is remembered that a hold was silent
	perClient    = 64               // questions that one client has begun and that are not over
)

// silence is a hold that kept somebody waiting in vain. Until it answers one question at a time tries it.
type silence struct {
	err  error
	next time.Time // when the next may
}

// question is one of rights that is under way. It goes on without those who wait for it.
type question struct {
	began  time.Time // by the clock of the machine
	done   chan struct{}
	rights holdclient.Rights
	err    error
}

// late reports whether it has kept somebody waiting for too long already.
func (q *question) late() bool { return time.Since(q.began) >= patience }

// ask joins the question for a DID's rights at a hold, or begins one. A hold that was silent just now is not asked: then
// there is its error in place of a question.
func (h *Holds) ask(ctx context.Context, key, hold, did string) (q *question, hung bool, err error) {
	now := h.o.Clock()
	h.mu.Lock()
	defer h.mu.Unlock()
	s, hung := h.silent.Get(hold, now)
	if q := h.asking[key]; q != nil {
		return q, hung, nil
	}
	if hung && now.Before(s.next) {
		return nil, true, s.err
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return nil, hung, err
	}
	if hung {
		h.silent.Put(hold, silence{s.err, now.Add(rightsWithin + silentFor)}, now.Add(silenceKept))
	}
	q = &question{began: time.Now(), done: make(chan struct{})}
	h.asking[key] = q
	go func() {
		defer leave()
		h.answer(httpx.Shared(context.WithoutCancel(ctx)), q, key, hold, did)
	}()
	return q, hung, nil
}

// enter makes sure that a client has not begun too much: what a question takes counts to no client's share, since others wait for it.
func (h *Holds) enter(ctx context.Context) (leave func(), err error) {
	client := httpx.Client(ctx)
	if !client.IsValid() {
		return func() {}, nil
	}
	if !h.begun.Enter(client.String()) {
		e := registry.ErrTooManyRequests.With("too many holds are being asked in your address's name at once: try again")
		e.RetryAfter = time.Second
		return nil, e
	}
	return func() { h.begun.Leave(client.String()) }, nil
}

// answer asks a hold for rights and remembers what it says, or that it says nothing.
func (h *Holds) answer(ctx context.Context, q *question, key, hold, did string) {
	ctx, cancel := context.WithTimeout(ctx, rightsWithin)
	defer cancel()
	c, err := h.Client(ctx, hold)
	if err == nil {
		if q.rights, err = c.Rights(ctx, did); err != nil && ctx.Err() != nil && !errors.Is(err, holdclient.ErrUnavailable) {
			err = unavailable(c.URL(), err)
		}
	}
	q.err = err
	now := h.o.Clock()
	switch {
	case err == nil:
		r := q.rights
		h.silent.Drop(hold)
		h.now.Put(key, r, now.Add(RightsFor))
		h.last.Put(key, r, now.Add(h.o.ServeStale))
		if did != "" { // it tells what anyone may, too
			h.last.Put("\n"+hold, holdclient.Rights{Captain: r.Captain, Public: r.Public, Read: r.Public}, now.Add(h.o.ServeStale))
		}
	case errors.Is(err, holdclient.ErrUnavailable) && !errors.Is(err, httpx.ErrNoPlace) && time.Since(q.began) >= silentAfter:
		h.silent.Put(hold, silence{err, now.Add(silentFor)}, now.Add(silenceKept))
	default: // no room here says nothing of it; one that fails at once keeps nobody waiting, and may just be starting again
		h.silent.Drop(hold)
	}
	h.mu.Lock()
	delete(h.asking, key)
	h.mu.Unlock()
	close(q.done)
}

func unavailable(url string, cause error) error {
	return &holdclient.Error{Kind: holdclient.ErrUnavailable, Method: "getRecord", URL: url, Cause: cause}
}
