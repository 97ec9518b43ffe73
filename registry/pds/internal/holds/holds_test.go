package holds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/registry"
)

// directory answers every look-up of a DID alike.
type directory struct {
	identity.Directory
	ident *identity.Identity
	err   error
}

func (d directory) LookupDID(context.Context, syntax.DID) (*identity.Identity, error) {
	return d.ident, d.err
}

type unusable struct{ error }

func (unusable) Unusable() string { return "the document's id is another" }

// TestUnresolved: a hold that can never be found is refused with the reason; one that can't be found now is waited for.
func TestUnresolved(t *testing.T) {
	const did = "did:web:hold.example.com"
	for name, c := range map[string]struct {
		did  string
		dir  directory
		want *registry.Error
		text string
	}{
		"no DID":      {"hold.example.com", directory{}, registry.ErrDenied, "is no DID"},
		"not there":   {did, directory{err: fmt.Errorf("%w: x", identity.ErrDIDNotFound)}, registry.ErrDenied, "no such DID"},
		"another's":   {did, directory{err: fmt.Errorf("look-up: %w", unusable{errors.New("secret 10.0.0.1")})}, registry.ErrDenied, "the document's id is another"},
		"no hold":     {did, directory{ident: &identity.Identity{DID: did}}, registry.ErrDenied, "names no hold service"},
		"an outage":   {did, directory{err: identity.ErrDIDResolutionFailed}, registry.ErrUnavailable, "try again later"},
		"our own end": {did, directory{err: context.DeadlineExceeded}, registry.ErrUnavailable, "try again later"},
	} {
		h := New(Options{Directory: c.dir, HTTP: http.DefaultClient, Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
		for what, ask := range map[string]func() error{
			"client": func() error { _, err := h.Client(t.Context(), c.did); return err },
			"rights": func() error { _, err := h.Rights(t.Context(), c.did, ""); return err },
			"read":   func() error { return h.MayRead(t.Context(), registry.Actor{}, c.did) },
		} {
			err := ask()
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), c.did) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			var e *registry.Error
			if errors.As(err, &e) && strings.Contains(e.Message, "10.0.0.1") {
				t.Errorf("%s, %s: it names an address: %s", name, what, e.Message)
			}
		}
	}
	err := Error(did, &holdclient.Error{Kind: holdclient.ErrNotAllowed, Cause: errors.New("10.0.0.1 is a private address")})
	var e *registry.Error
	if !errors.As(err, &e) || e.Status >= 500 || strings.Contains(e.Message, "10.0.0.1") {
		t.Errorf("an address that is not allowed: %v", err)
	}
}
