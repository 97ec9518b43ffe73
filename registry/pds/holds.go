package pds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/registry"
)

const (
	rightsFor    = 60 * time.Second // how long rights and the choice of a hold are believed
	rightsWithin = 10 * time.Second // how long a hold may take to tell them
	silentAfter  = time.Second      // who fails after this has kept somebody waiting
)

// Hold answers an anonymous client of the hold that has the DID; see holdclient.Client.As for one that signs. Errors:
// registry.ErrUnavailable.
func (b *Backend) Hold(ctx context.Context, did string) (*holdclient.Client, error) {
	return b.hold(ctx, did)
}

// hold answers a client of a hold, anonymous. Clients are kept, since they learn.
func (b *Backend) hold(ctx context.Context, did string) (*holdclient.Client, error) {
	parsed, err := syntax.ParseDID(did)
	if err != nil {
		return nil, registry.ErrUnavailable.With("the record names a hold %q that is no DID", clip(did)).Wrap(err)
	}
	ident, err := b.directory.LookupDID(ctx, parsed)
	if err != nil {
		b.clientsMu.Lock()
		c := b.clients[did]
		b.clientsMu.Unlock()
		if c != nil && !errors.Is(err, identity.ErrDIDNotFound) {
			return c, nil
		}
		e := registry.ErrUnavailable.With("the hold %s can't be resolved: try again later", did).Wrap(err)
		e.RetryAfter = 10 * time.Second
		return nil, e
	}
	endpoint, own := ident.GetServiceEndpoint("atcr_hold"), true
	if endpoint == "" {
		endpoint, own = ident.PDSEndpoint(), false
	}
	if endpoint == "" {
		return nil, registry.ErrUnavailable.With("the identity document of the hold %s names no hold service", did)
	}
	endpoint = strings.TrimRight(endpoint, "/")
	b.clientsMu.Lock()
	defer b.clientsMu.Unlock()
	if c := b.clients[did]; c != nil && c.URL() == endpoint {
		return c, nil
	}
	if len(b.clients) >= 10_000 {
		clear(b.clients)
	}
	// The document's own id is the hold's name: a loopback hold has two spellings and tokens are for one.
	c := holdclient.New(holdclient.Options{
		DID: ident.DID.String(), URL: endpoint, HasHoldService: own, HTTP: b.http, Log: b.log, Clock: b.clock,
	})
	b.clients[did] = c
	return c, nil
}

// holdAs answers a client that signs with the session; anonymous without one.
func (b *Backend) holdAs(ctx context.Context, did, session string) (*holdclient.Client, error) {
	c, err := b.hold(ctx, did)
	if err != nil || session == "" || b.sessions == nil {
		return c, err
	}
	return c.As(func(ctx context.Context, aud, lxm string) (string, error) {
		return b.sessions.ServiceToken(ctx, session, aud, lxm)
	}), nil
}

// rights answers what a DID may do at a hold, at most a minute old; while the hold is silent, what it last said.
func (b *Backend) rights(ctx context.Context, hold, did string) (holdclient.Rights, error) {
	key := did + "\n" + hold
	now := b.clock()
	if r, ok := b.rightsMemo.get(key, now); ok {
		return r, nil
	}
	err, failed := b.silentHolds.get(hold, now)
	began := time.Now()
	var c *holdclient.Client
	if !failed {
		c, err = b.hold(ctx, hold)
	}
	if err == nil {
		ask, cancel := context.WithTimeout(ctx, rightsWithin)
		defer cancel()
		var r holdclient.Rights
		if r, err = c.Rights(ask, did); err == nil {
			b.rightsMemo.put(key, r, now.Add(rightsFor))
			b.lastRights.put(key, r, now.Add(b.serveStale))
			if did != "" { // it tells what anyone may, too
				b.lastRights.put("\n"+hold, holdclient.Rights{Public: r.Public, Read: r.Public}, now.Add(b.serveStale))
			}
			return r, nil
		}
		if ctx.Err() == nil && (ask.Err() != nil || errors.Is(err, holdclient.ErrUnavailable)) {
			if !errors.Is(err, holdclient.ErrUnavailable) {
				err = &holdclient.Error{Kind: holdclient.ErrUnavailable, Method: "getRecord", URL: c.URL(), Cause: err}
			}
			if time.Since(began) >= silentAfter { // one that fails at once keeps nobody waiting, and may just be starting again
				b.silentHolds.put(hold, err, now.Add(failureFor))
			}
		}
	}
	if r, ok := b.lastRights.get(key, now); ok && ctx.Err() == nil {
		return r, nil
	}
	return holdclient.Rights{}, holdError(hold, err)
}

// mayRead answers nil when the actor may read the hold.
func (b *Backend) mayRead(ctx context.Context, actor registry.Actor, hold string) error {
	if r, err := b.rights(ctx, hold, ""); err != nil || r.Public {
		return err
	}
	if actor.ID == "" {
		return registry.ErrUnauthorized.With("the hold %s is private: sign in", hold).WithChallenge(actor.Challenge)
	}
	r, err := b.rights(ctx, hold, actor.ID)
	if err != nil || r.Read {
		return err
	}
	return registry.ErrDenied.With("the hold %s is private and %s is not of its crew: ask its captain, or for membership by io.atcr.hold.requestCrew", hold, actor.ID)
}

// ensureWriter makes sure that the actor may write to the hold. Where anyone may join, it joins.
func (b *Backend) ensureWriter(ctx context.Context, actor registry.Actor, hold string) error {
	r, err := b.rights(ctx, hold, actor.ID)
	if err != nil || r.Write {
		return err
	}
	denied := registry.ErrDenied.With("%s may not write to the hold %s: its captain has to add it to the crew (io.atcr.hold.requestCrew)", actor.ID, hold)
	c, err := b.holdAs(ctx, hold, actor.Session)
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
		return holdError(hold, err)
	}
	b.rightsMemo.drop(actor.ID + "\n" + hold)
	if r, err = b.rights(ctx, hold, actor.ID); err != nil || r.Write {
		return err
	}
	return denied
}

// presentHold is where an owner's pushes go: the profile's defaultHold, else ours. An owner without a profile gets
// one when session may write.
func (b *Backend) presentHold(ctx context.Context, o owner, session string) (string, error) {
	now := b.clock()
	if h, ok := b.present.get(o.DID, now); ok {
		return h, nil
	}
	rec, err := b.pdsOf(o).getRecord(ctx, o.DID, atcr.NSIDProfile, "self")
	missing := errors.Is(err, errNoRecord)
	if err != nil && !missing {
		return "", err
	}
	var profile atcr.SailorProfile
	if !missing {
		if err := json.Unmarshal(rec.Value, &profile); err != nil {
			b.skip(o.DID, atcr.NSIDProfile, "self", err)
		}
	}
	hold := b.defaultHold
	if profile.DefaultHold != "" {
		if hold, err = atcr.HoldDID(profile.DefaultHold); err != nil {
			return "", registry.ErrDenied.With("defaultHold in your profile is no DID: %q", clip(profile.DefaultHold)).Wrap(err)
		}
	}
	if hold == "" {
		return "", registry.ErrDenied.With("there is no hold to push to: set defaultHold in your profile (%s)", atcr.NSIDProfile)
	}
	c, err := b.hold(ctx, hold)
	if err != nil {
		return "", err
	}
	hold = c.DID()
	if missing && session != "" {
		if err := b.writeProfile(ctx, o, session, hold); err != nil {
			return "", fmt.Errorf("write the profile: %w", err)
		}
	}
	b.present.put(o.DID, hold, now.Add(rightsFor))
	return hold, nil
}

// writeProfile makes the first profile of an owner. One that somebody else has made meanwhile stands.
func (b *Backend) writeProfile(ctx context.Context, o owner, session, hold string) error {
	release, err := b.locks.take(ctx, o.DID)
	if err != nil {
		return err
	}
	defer release()
	_, err = b.change(ctx, o, session, func(ctx context.Context, retry bool) ([]planned, error) {
		if _, err := b.pdsOf(o).getRecord(ctx, o.DID, atcr.NSIDProfile, "self"); err == nil || !errors.Is(err, errNoRecord) {
			return nil, err
		}
		now := atcr.NewDatetime(b.clock())
		profile := &atcr.SailorProfile{DefaultHold: hold, CreatedAt: now, UpdatedAt: now}
		return []planned{{write: write{Type: opCreate, Collection: profile.NSID(), RKey: atcr.RKeySelf, Value: profile}}}, nil
	})
	return err
}

// holdError turns an error of a hold into one of the registry that names the hold.
func holdError(hold string, err error) error {
	if err == nil {
		return nil
	}
	if e := (*registry.Error)(nil); errors.As(err, &e) {
		return err // of the session, on the way to a token
	}
	var wait time.Duration
	message := ""
	if e := (*holdclient.Error)(nil); errors.As(err, &e) {
		wait, message = e.RetryAfter, e.Message
		if message != "" {
			message = ": " + clip(message)
		}
	}
	with := func(kind *registry.Error, format string, args ...any) error {
		e := kind.With(format, args...).Wrap(err)
		e.RetryAfter = wait
		return e
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, holdclient.ErrUnavailable):
		return err
	case errors.Is(err, holdclient.ErrNotFound):
		return with(registry.ErrBlobUnknown, "the hold %s has no such blob", hold)
	case errors.Is(err, holdclient.ErrUnauthorized), errors.Is(err, holdclient.ErrForbidden):
		return with(registry.ErrDenied, "the hold %s refuses%s; to become a member ask it by io.atcr.hold.requestCrew", hold, message)
	case errors.Is(err, holdclient.ErrQuotaExceeded):
		return with(registry.ErrDenied, "the quota at the hold %s is used up%s", hold, message)
	case errors.Is(err, holdclient.ErrNoSpace):
		return with(registry.ErrNoSpace, "the hold %s has no space left", hold)
	case errors.Is(err, holdclient.ErrRateLimited):
		wait = max(wait, time.Second)
		return with(registry.ErrTooManyRequests, "the hold %s asks to slow down", hold)
	case errors.Is(err, holdclient.ErrInvalidDigest):
		return with(registry.ErrDigestInvalid, "the hold %s does not take this digest, or the bytes are something else%s", hold, message)
	case errors.Is(err, holdclient.ErrInvalidUpload), errors.Is(err, holdclient.ErrMissingParts):
		return with(registry.ErrUploadUnknown, "the hold %s does not know this upload: start a new one by POST", hold)
	case errors.Is(err, holdclient.ErrInvalid):
		return with(registry.ErrManifestInvalid, "the hold %s refuses it%s", hold, message)
	}
	wait = max(wait, 5*time.Second)
	return with(registry.ErrUnavailable, "the hold %s does not answer%s: try again later", hold, message)
}
