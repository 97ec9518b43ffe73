package auth

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
)

// counting counts look-ups.
type counting struct {
	identity.Directory
	n atomic.Int32
}

func (c *counting) Lookup(ctx context.Context, id syntax.AtIdentifier) (*identity.Account, error) {
	c.n.Add(1)
	return c.Directory.Lookup(ctx, id)
}

func (c *counting) LookupDID(ctx context.Context, did syntax.DID) (*identity.Account, error) {
	c.n.Add(1)
	return c.Directory.LookupDID(ctx, did)
}

// TestScopesOfManyHandles: the handles that a token is asked for are not looked up one after the other: each may take its server seconds.
func TestScopesOfManyHandles(t *testing.T) {
	t.Parallel()
	dir := &counting{}
	f := newFixture(t, func(o *Options) { dir.Directory, o.Directory = o.Directory, dir })
	f.token("alice.test", app, "repository:alice.test/app:pull")
	before := dir.n.Load()
	f.token("alice.test", app, "repository:alice.test/app:pull")
	signIn := dir.n.Load() - before

	var scopes []string
	for i := range maxScopes - 3 {
		scopes = append(scopes, fmt.Sprintf("repository:handle%d.test/app:pull,push", i))
	}
	scopes = append(scopes, "repository:alice.test/app:pull,push", "repository:Alice.test/other:push", "repository:did-plc-"+alice[8:]+"/app:push")
	before = dir.n.Load()
	got := f.granted(f.token("alice.test", app, scopes...))
	if n := dir.n.Load() - before - signIn; n > 2 {
		t.Errorf("%d look-ups beside those of the sign-in", n)
	}
	if n := strings.Count(got, "push"); n != 3 || !strings.Contains(got, "alice.test/app:pull,push") || strings.Contains(got, ".test/app:push handle") {
		t.Errorf("%d pushes: %s", n, got)
	}

	// A handle that is newer than what is remembered of the account.
	f.insert(alice, "new.test", f.pds.URL)
	dir.Directory = &older{f.dir, "alice.test"}
	if got := f.granted(f.token("new.test", app, "repository:new.test/app:push")); got != "new.test/app:push" {
		t.Errorf("a new handle: %s", got)
	}
}

// older remembers an account by the handle that it had.
type older struct {
	identity.Directory
	handle syntax.Handle
}

func (o *older) LookupDID(ctx context.Context, did syntax.DID) (*identity.Account, error) {
	acc, err := o.Directory.LookupDID(ctx, did)
	if err != nil {
		return nil, err
	}
	old := *acc
	old.Handle = o.handle
	return &old, nil
}
