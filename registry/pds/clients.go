package pds

import (
	"context"
	"time"

	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/registry"
)

// How often one client may have others asked in its name: the directory about a name that was not seen lately, a PDS whether its
// owner's copy still holds, and for a listing. A request costs one whatever it needs of these.
const (
	asksPerSecond = 5
	askBurst      = 100
	nameKnownFor  = 10 * time.Minute
)

type payerKey struct{}

// payer is the client in whose name a request asks. It is used by one goroutine.
type payer struct {
	b     *Backend
	actor string // its DID; may be empty
	paid  bool
}

// withPayer has what is asked in ctx counted for the actor, or for the client's address without one. Where neither is known, as in a
// program that serves the Backend by a handler of its own, nothing is counted.
func (b *Backend) withPayer(ctx context.Context, actor registry.Actor) context.Context {
	return context.WithValue(ctx, payerKey{}, &payer{b: b, actor: actor.ID})
}

// pay is called before somebody is asked for the request of ctx. It costs nothing the second time, nor outside of a request. Errors:
// ErrTooManyRequests.
func pay(ctx context.Context) error {
	p, _ := ctx.Value(payerKey{}).(*payer)
	if p == nil || p.paid || p.actor == "" && !httpx.Client(ctx).IsValid() {
		return nil
	}
	if wait := p.b.asks.Take(httpx.ClientKey(ctx, p.actor), p.b.clock()); wait > 0 {
		e := registry.ErrTooManyRequests.With("too many accounts were asked for that are not known here: wait %d seconds",
			int(wait/time.Second)+1)
		e.RetryAfter = wait
		return e
	}
	p.paid = true
	return nil
}
