package auth

import (
	"time"

	"github.com/atcr-dev/atcr/registry"
)

// How many tokens are signed for one client: an RSA signature takes more than a millisecond of a processor. Who has signed in counts by
// the DID. Credentials are counted by address until they are found good, apart from anonymous tokens, since names are looked up for them.
const (
	signingsPerSecond = 20
	signingBurst      = 200
)

// paySigning takes one signing. Errors: ErrTooManyRequests with RetryAfter.
func (a *Auth) paySigning(key string) error {
	wait := a.signings.Take(key, a.opts.Clock())
	if wait <= 0 {
		return nil
	}
	return slowed("too many tokens are asked for", wait)
}

func slowed(what string, wait time.Duration) error {
	e := registry.ErrTooManyRequests.With("%s: wait %d seconds", what, int(wait/time.Second)+1)
	e.RetryAfter = wait
	return e
}
