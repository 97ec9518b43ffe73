package auth

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/registry"
)

const (
	// livesFor is how long a token is taken to live since that was last looked up, and so how soon what was ended is refused.
	livesFor = 5 * time.Second
	maxLives = 50_000
)

// lives remembers for a short time what lives, and what has ended and why.
type lives struct {
	clock func() time.Time

	mu    sync.Mutex
	known *lru[life]
}

type life struct {
	seen time.Time
	err  error // of kind registry.ErrUnauthorized; nil: it lives
}

func newLives(clock func() time.Time) *lives {
	return &lives{clock: clock, known: newLRU[life](maxLives)}
}

// ask returns what look does, or did within the last seconds. Errors that say nothing of the token are not remembered.
func (l *lives) ask(ctx context.Context, id string, look func(ctx context.Context, id string) error) error {
	now := l.clock()
	l.mu.Lock()
	was, ok := l.known.get(id)
	l.mu.Unlock()
	if age := now.Sub(was.seen); ok && age >= 0 && age < livesFor {
		return was.err
	}
	err := look(ctx, id)
	if err == nil || errors.Is(err, registry.ErrUnauthorized) {
		l.mu.Lock()
		l.known.put(id, life{now, err})
		l.mu.Unlock()
	}
	return err
}

// forget has a token looked up at its next use.
func (l *lives) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known.drop(id)
}

// alive returns nil when a registry token's secret and session still live. Errors: of kind ErrUnauthorized when one has ended.
func (a *Auth) alive(ctx context.Context, base string, c *claims) error {
	if c.Token != "" {
		err := a.lives.ask(ctx, c.Token, func(ctx context.Context, id string) error {
			t, err := a.secrets.byID(ctx, id)
			switch {
			case err != nil:
				return err
			case t == nil || t.DID != c.DID:
				return errNoSession
			}
			if err := t.refusal(a.opts.Clock(), base); err != nil {
				return err
			}
			if t.Session != c.Session {
				return errNoSession
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if c.Session == "" {
		return nil
	}
	return a.sessionLives(ctx, c.Session)
}

// sessionLives returns nil when a session or grant is there.
func (a *Auth) sessionLives(ctx context.Context, session string) error {
	return a.lives.ask(ctx, session, a.sessions.lives)
}
