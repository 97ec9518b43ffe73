package pds

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	ours "github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/keyed"
)

// owner is whose repository a name lies in.
type owner struct {
	DID string
	PDS string // scheme and host
	// staleName is when the name was last seen to mean this DID, when it can't be resolved now; zero when it was.
	staleName time.Time
	cause     error // why it can't be resolved now
}

// splitName cuts IDENTITY/REPOSITORY.
func splitName(name string) (id, repository string, err error) {
	who, repository, err := atcr.ParseName(name)
	if err != nil {
		if first, _, ok := strings.Cut(name, "/"); !ok || errors.Is(err, atcr.ErrIdentity) {
			return "", "", registry.ErrNameUnknown.With("there is no repository %q: names are HANDLE/REPOSITORY, and %q is no handle",
				clip(name), clip(first)).Wrap(err)
		}
		return "", "", registry.ErrNameInvalid.With("%v", err)
	}
	return who.String(), repository, nil
}

// names resolves identities, and remembers what they meant in the table pds_name.
type names struct {
	db         *sqlx.DB
	directory  identity.Directory
	serveStale time.Duration
	clock      func() time.Time
	log        *slog.Logger

	unresolved *keyed.Memo[string, error] // identities that could not be resolved just now
	known      *keyed.Memo[string, owner] // names that were resolved lately, and what was written of them to pds_name
}

func newNames(o Options) *names {
	return &names{
		db: o.DB, directory: o.Directory, serveStale: o.ServeStale, clock: o.Clock, log: o.Log,
		unresolved: keyed.NewMemo[string, error](10_000), known: keyed.NewMemo[string, owner](10_000),
	}
}

// owner resolves an identity. While it can't be resolved the last known answer stands in, marked as such.
func (n *names) owner(ctx context.Context, id string) (owner, error) {
	atid, err := syntax.ParseAtIdentifier(id)
	if err != nil {
		return owner{}, registry.ErrNameUnknown.With("%q is neither a handle nor a DID", clip(id)).Wrap(err)
	}
	if err, ok := n.unresolved.Get(id, n.clock()); ok {
		return n.lastKnownOwner(ctx, id, err)
	}
	was, known := n.known.Get(id, n.clock())
	if !known { // else asking again costs nothing
		if err := pay(ctx); err != nil {
			return owner{}, err
		}
	}
	ident, err := n.directory.Lookup(ctx, atid)
	if err != nil {
		if ctx.Err() != nil {
			return owner{}, ctx.Err()
		}
		if unknownIdentity(err) {
			return owner{}, registry.ErrNameUnknown.With("there is no account %q", clip(id)).Wrap(err)
		}
		if !errors.Is(err, httpx.ErrNoPlace) {
			n.unresolved.Put(id, err, n.clock().Add(failureFor))
		}
		return n.lastKnownOwner(ctx, id, err)
	}
	o := owner{DID: ident.DID.String(), PDS: strings.TrimRight(ident.PDSEndpoint(), "/")}
	if o.PDS == "" {
		return owner{}, registry.ErrNameUnknown.With("the account %q has no PDS", clip(id))
	}
	if was != o {
		n.rememberName(ctx, id, o)
	}
	return o, nil
}

// unknownIdentity tells an answer ("there is none") from a failure to ask.
func unknownIdentity(err error) bool {
	for _, e := range []error{
		identity.ErrHandleNotFound, identity.ErrHandleMismatch, identity.ErrHandleNotDeclared, identity.ErrHandleReservedTLD,
		identity.ErrDIDNotFound, identity.ErrInvalidHandle,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// rememberName keeps what a name means, for times when it can't be resolved. A failure to write is logged.
func (n *names) rememberName(ctx context.Context, id string, o owner) {
	now := n.clock()
	_, err := n.db.Write().ExecContext(ctx, `insert into pds_name (name, did, endpoint, seen) values ($1, $2, $3, $4)
		on conflict (name) do update set did = $2, endpoint = $3, seen = $4`, id, o.DID, o.PDS, now.Unix())
	if err != nil {
		n.log.Warn("a name could not be remembered", "name", id, "err", err)
		o = owner{} // to be written the next time
	}
	n.known.Put(id, o, now.Add(nameKnownFor))
}

func (n *names) lastKnownOwner(ctx context.Context, id string, cause error) (owner, error) {
	unavailable := registry.ErrUnavailable.With("the identity %q can't be resolved now: try again later", clip(id)).Wrap(cause)
	unavailable.RetryAfter = 10 * time.Second
	if why, never := ours.Unusable(cause); never {
		unavailable = registry.ErrNameUnknown.With("the account %q can't be used: %s", clip(id), clip(why)).Wrap(cause)
	}
	var o owner
	var seen int64
	err := n.db.Read().QueryRowContext(ctx, `select did, endpoint, seen from pds_name where name = $1`, id).Scan(&o.DID, &o.PDS, &seen)
	if errors.Is(err, sql.ErrNoRows) {
		return owner{}, unavailable
	}
	if err != nil {
		return owner{}, fmt.Errorf("read the name %s: %w", id, sqlx.Wrap(err))
	}
	o.staleName = time.Unix(seen, 0)
	if n.clock().Sub(o.staleName) > n.serveStale {
		return owner{}, unavailable
	}
	unavailable.Message = fmt.Sprintf("the identity %q can't be resolved now (its PDS is %s): try again later", clip(id), o.PDS)
	o.cause = unavailable
	return o, nil
}
