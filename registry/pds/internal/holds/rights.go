package holds

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

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
				h.last.Put("\n"+hold, holdclient.Rights{Captain: r.Captain, Public: r.Public, Read: r.Public}, now.Add(h.o.ServeStale))
			}
			return r, nil
		}
		// A caller whose own time is over has waited, too; one that has gone says nothing about the hold.
		if !errors.Is(ctx.Err(), context.Canceled) && (ask.Err() != nil || errors.Is(err, holdclient.ErrUnavailable)) {
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
		return registry.ErrUnauthorized.With("the hold %s is private: sign in (docker login %s -u HANDLE)",
			h.hold(ctx, hold), service(actor.Challenge)).WithChallenge(actor.Challenge)
	}
	r, err := h.Rights(ctx, hold, actor.ID)
	if err != nil || r.Read {
		return err
	}
	return h.denied(ctx, hold, actor, r, "the hold %s is private, and %s may not read it", "blob:read")
}

// EnsureWriter makes sure that the actor may write to the hold. Where anyone may join, it joins.
func (h *Holds) EnsureWriter(ctx context.Context, actor registry.Actor, hold string) error {
	r, err := h.Rights(ctx, hold, actor.ID)
	if err != nil || r.Write {
		return err
	}
	denied := func(r holdclient.Rights) *registry.Error {
		return h.denied(ctx, hold, actor, r, "the hold %s does not take blobs of %s", "blob:write")
	}
	c, err := h.As(ctx, hold, actor.Session)
	if err != nil {
		return err
	}
	if r.Crew {
		return denied(r)
	}
	if _, err = c.RequestCrew(ctx, "blob:read", "blob:write"); err != nil {
		if errors.Is(err, holdclient.ErrForbidden) || errors.Is(err, holdclient.ErrInvalid) || errors.Is(err, holdclient.ErrNotSupported) {
			return denied(r).Wrap(err)
		}
		return Error(hold, err)
	}
	h.now.Drop(actor.ID + "\n" + hold)
	if r, err = h.Rights(ctx, hold, actor.ID); err != nil || r.Write {
		return err
	}
	return denied(r)
}

// denied is the refusal of an actor by a hold. It names both, the captain, and the captain's command.
func (h *Holds) denied(
	ctx context.Context, hold string, actor registry.Actor, r holdclient.Rights, format, permission string,
) *registry.Error {
	who := h.handle(ctx, actor.ID)
	add := "atcr-hold crew add " + who
	if r.Crew { // with other permissions
		add = "atcr-hold crew add --permissions " + permission + " " + who
	}
	captain := "its captain"
	if r.Captain != "" {
		captain += " " + h.handle(ctx, r.Captain)
	}
	return registry.ErrDenied.With(format+": ask %s for '%s'", h.hold(ctx, hold), who, captain, add)
}

// handle returns the handle of an account, its DID when it has none or can't be resolved now.
func (h *Holds) handle(ctx context.Context, did string) string {
	parsed, err := syntax.ParseDID(did)
	if err != nil {
		return clip(did)
	}
	ident, err := h.o.Directory.LookupDID(ctx, parsed)
	if err != nil || ident.Handle == "" || ident.Handle.IsInvalidHandle() {
		return did
	}
	return ident.Handle.String()
}

// hold returns the name of a hold for people.
func (h *Holds) hold(ctx context.Context, did string) string {
	if name := h.handle(ctx, did); name != did {
		return name + " (" + did + ")"
	}
	return did
}

// service returns the registry's name in a challenge, which is what docker login takes.
func service(challenge string) string {
	_, rest, _ := strings.Cut(challenge, `service="`)
	if name, _, ok := strings.Cut(rest, `"`); ok && name != "" {
		return name
	}
	return "REGISTRY"
}
