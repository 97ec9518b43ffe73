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

// Rights returns what a DID may do at a hold, at most a minute old. What it last said stands in when the hold is silent, or slow: then it
// is asked behind the request. Where nothing is known of a silent hold, one request waits for it and the others are told.
func (h *Holds) Rights(ctx context.Context, hold, did string) (holdclient.Rights, error) {
	key := did + "\n" + hold
	now := h.o.Clock()
	if r, ok := h.now.Get(key, now); ok {
		return r, nil
	}
	last, known := h.last.Get(key, now)
	q, hung, err := h.ask(ctx, key, hold, did)
	switch {
	case ctx.Err() != nil:
		return holdclient.Rights{}, ctx.Err()
	case known && (q == nil || hung || q.late()):
		return last, nil
	case q == nil:
		return holdclient.Rights{}, Error(hold, err)
	case q.late():
		return holdclient.Rights{}, Error(hold, unavailable("", errors.New("it keeps others waiting, too")))
	}
	var enough <-chan time.Time
	if known {
		t := time.NewTimer(patience - time.Since(q.began))
		defer t.Stop()
		enough = t.C
	}
	select {
	case <-q.done:
	case <-enough:
		return last, nil
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return holdclient.Rights{}, ctx.Err()
		}
		return holdclient.Rights{}, Error(hold, unavailable("", ctx.Err())) // a caller whose own time is over has waited
	}
	switch {
	case q.err == nil:
		return q.rights, nil
	case known:
		return last, nil
	}
	return holdclient.Rights{}, Error(hold, q.err)
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
	c, err := h.As(ctx, hold, actor)
	if err != nil {
		return err
	}
	if r.Crew {
		return denied(r)
	}
	err = Patiently(ctx, func() error {
		_, err := c.RequestCrew(ctx, "blob:read", "blob:write")
		return err
	})
	if err != nil {
		if errors.Is(err, holdclient.ErrForbidden) || errors.Is(err, holdclient.ErrInvalid) || errors.Is(err, holdclient.ErrNotSupported) {
			return denied(r).Wrap(err)
		}
		return Error(hold, err)
	}
	h.now.Drop(actor.ID + "\n" + hold)
	h.last.Drop(actor.ID + "\n" + hold) // from before it joined
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
