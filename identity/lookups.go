package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/limit"
	"github.com/atcr-dev/atcr/internal/party"
)

// Look-ups of did:web documents that run at once. Whoever names a DID chooses the server, which may take as long as it likes.
const (
	maxWebLookups    = 64
	maxPartyLookups  = 8  // of names under one registered domain
	maxClientLookups = 16 // for one client
	webLookupWait    = 3 * time.Second
)

var errTooManyLookups = errors.New("too many look-ups of did:web documents at once")

// lookups bounds them.
type lookups struct {
	all     chan struct{}
	parties *limit.Places
	clients *limit.Places
}

func newLookups() *lookups {
	return &lookups{
		all: make(chan struct{}, maxWebLookups), parties: limit.NewPlaces(maxPartyLookups), clients: limit.NewPlaces(maxClientLookups),
	}
}

// bound returns ask with the bounds: a question for which there is no place fails, and may be asked again.
func (l *lookups) bound(ask func(context.Context, string) (*Account, error)) func(context.Context, string) (*Account, error) {
	return func(ctx context.Context, key string) (*Account, error) {
		if syntax.DID(key).Method() != "web" {
			return ask(ctx, key)
		}
		leave, err := l.enter(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrDIDResolutionFailed, key, err)
		}
		defer leave()
		return ask(ctx, key)
	}
}

func (l *lookups) enter(ctx context.Context, did string) (leave func(), err error) {
	whose := party.Of(did)
	if !l.parties.Enter(whose) {
		return nil, errTooManyLookups
	}
	client := ""
	if a := httpx.Client(ctx); a.IsValid() {
		if client = a.String(); !l.clients.Enter(client) {
			l.parties.Leave(whose)
			return nil, errTooManyLookups
		}
	}
	out := func() {
		l.parties.Leave(whose)
		if client != "" {
			l.clients.Leave(client)
		}
	}
	wait, cancel := context.WithTimeout(ctx, webLookupWait)
	defer cancel()
	select {
	case l.all <- struct{}{}:
		return func() { <-l.all; out() }, nil
	case <-wait.Done():
		out()
		return nil, cmp.Or(ctx.Err(), errTooManyLookups)
	}
}
