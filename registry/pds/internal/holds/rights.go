package holds

import (
	"context"
	"errors"
	"time"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/registry"
)

// Rights returns what a DID may do at a hold, at most a minute old; while the hold is silent, what it last said.
func (h *Holds) Rights(ctx context.Context, hold, did string) (holdclient.Rights, error) {
	key := did + "\n" + hold
	now := h.o.Clock()
	if r, ok := h.now.Get(key, now); ok {
		return r, nil
	}
	err, failed := h.silent.Get(hold, now)
	began := time.Now()
	var c *holdclient.Client
	if !failed {
		c, err = h.Client(ctx, hold)
	}
	if err == nil {
		ask, cancel := context.WithTimeout(ctx, rightsWithin)
		defer cancel()
		var r holdclient.Rights
		if r, err = c.Rights(ask, did); err == nil {
			h.now.Put(key, r, now.Add(RightsFor))
			h.last.Put(key, r, now.Add(h.o.ServeStale))
			if did != "" { // it tells what anyone may, too
				h.last.Put("\n"+hold, holdclient.Rights{Public: r.Public, Read: r.Public}, now.Add(h.o.ServeStale))
			}
			return r, nil
		}
		if ctx.Err() == nil && (ask.Err() != nil || errors.Is(err, holdclient.ErrUnavailable)) {
			if !errors.Is(err, holdclient.ErrUnavailable) {
				err = &holdclient.Error{Kind: holdclient.ErrUnavailable, Method: "getRecord", URL: c.URL(), Cause: err}
			}
			if time.Since(began) >= silentAfter { // one that fails at once keeps nobody waiting, and may just be starting again
				h.silent.Put(hold, err, now.Add(silentFor))
			}
		}
	}
	if r, ok := h.last.Get(key, now); ok && ctx.Err() == nil {
		return r, nil
	}
	return holdclient.Rights{}, Error(hold, err)
}

// MayRead returns nil when the actor may read the hold.
func (h *Holds) MayRead(ctx context.Context, actor registry.Actor, hold string) error {
	if r, err := h.Rights(ctx, hold, ""); err != nil || r.Public {
		return err
	}
	if actor.ID == "" {
		return registry.ErrUnauthorized.With("the hold %s is private: sign in", hold).WithChallenge(actor.Challenge)
	}
	r, err := h.Rights(ctx, hold, actor.ID)
	if err != nil || r.Read {
		return err
	}
	return registry.ErrDenied.With("the hold %s is private and %s is not of its crew: ask its captain, or for membership by io.atcr.hold.requestCrew", hold, actor.ID)
}

// EnsureWriter makes sure that the actor may write to the hold. Where anyone may join, it joins.
func (h *Holds) EnsureWriter(ctx context.Context, actor registry.Actor, hold string) error {
	r, err := h.Rights(ctx, hold, actor.ID)
	if err != nil || r.Write {
		return err
	}
	denied := registry.ErrDenied.With("%s may not write to the hold %s: its captain has to add it to the crew (io.atcr.hold.requestCrew)", actor.ID, hold)
	c, err := h.As(ctx, hold, actor.Session)
	if err != nil {
		return err
	}
	if r.Crew {
		return denied
	}
	if _, err = c.RequestCrew(ctx, "blob:read", "blob:write"); err != nil {
		if errors.Is(err, holdclient.ErrForbidden) || errors.Is(err, holdclient.ErrInvalid) || errors.Is(err, holdclient.ErrNotSupported) {
			return denied.Wrap(err)
		}
		return Error(hold, err)
	}
	h.now.Drop(actor.ID + "\n" + hold)
	if r, err = h.Rights(ctx, hold, actor.ID); err != nil || r.Write {
		return err
	}
	return denied
}
