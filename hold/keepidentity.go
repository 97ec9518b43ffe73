package hold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/repo"
)

// self is who the hold is. A key rotation puts another in its place.
type self struct {
	*identity.Identity
	wellKnown http.Handler
}

// keeper looks after the hold's identity: it holds what the hold is, finishes key rotations, keeps a did:plc current in its directory,
// and writes to the repository what followers must see of it.
type keeper struct {
	cfg   identity.Config
	log   *slog.Logger
	crash crashpoint.Hook
	repo  *repo.Repo // nil until New has opened it

	current   atomic.Pointer[self]
	manager   *plc.Manager
	turn      chan struct{} // holds one: who looks after the identity
	unchecked bool          // the directory could not be asked at the start
	announce  atomic.Bool   // our DID document changed, and followers of the repository have not been told
}

func newSelf(id *identity.Identity) *self {
	return &self{Identity: id, wellKnown: identity.WellKnown(id)}
}

func (k *keeper) self() *self { return k.current.Load() }

// take keeps others who would change the identity or its entry in the directory out, until done is called.
func (k *keeper) take(ctx context.Context) (done func(), err error) {
	select {
	case k.turn <- struct{}{}:
		return func() { <-k.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// check is [Server.CheckIdentity].
func (k *keeper) check(ctx context.Context) error {
	done, err := k.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	ctx = crashpoint.With(ctx, k.crash)
	err = k.manager.CompleteRotations(ctx)
	// After other errors our key may be the old one, which must not go back into the directory. A directory that does not know us
	// yet is to be told first, and without a rotation key nothing is changed.
	compare := err == nil || errors.Is(err, identity.ErrPLCNotFound) || errors.Is(err, identity.ErrNoRotationKey)
	err = errors.Join(err, k.become(ctx, k.manager.Identity()))
	var perr error
	if compare {
		var status *identity.PLCStatus
		status, perr = identity.EnsurePLCCurrent(ctx, k.self().Identity, k.cfg)
		if status != nil && status.Updated {
			k.announce.Store(true)
		}
	}
	if k.repo != nil {
		perr = errors.Join(perr, k.signAnew(ctx))
	}
	return errors.Join(err, perr)
}

// rotate is [Server.RotateSigningKey].
func (k *keeper) rotate(ctx context.Context, keyType string) (*plc.Plan, error) {
	done, err := k.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx = crashpoint.With(ctx, k.crash)
	plan, err := k.manager.Rotate(ctx, plc.RotateOptions{Type: keyType})
	return plan, errors.Join(err, k.become(ctx, k.manager.Identity()))
}

// become takes new keys into use. The document is first: whoever hears of the new signing key by the event reads it there.
func (k *keeper) become(ctx context.Context, fresh *identity.Identity) error {
	old := k.self()
	if fresh == old.Identity {
		return nil
	}
	k.current.Store(newSelf(fresh))
	if k.repo == nil || fresh.Key.Equal(old.Key) { // at the start the repository is opened with the new key
		return nil
	}
	_, err := k.repo.Rekey(context.WithoutCancel(ctx), fresh.Key, fresh.Handle.String())
	if err != nil {
		return fmt.Errorf("the new signing key is in use; followers hear of it with the next commit: %w", err)
	}
	k.log.Info("the hold signs with a new key", "did", fresh.DID)
	return nil
}

// checkAtBoot goes on whatever the directory does, except when it says that the DID was given up, and when the new DID can never be
// registered there.
func (k *keeper) checkAtBoot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, identityWait)
	defer cancel()
	err := k.check(ctx)
	if errors.Is(err, identity.ErrPLCTombstone) {
		return fmt.Errorf("%w: undo it with a higher rotation key (atcr-hold identity recover, within 72 hours), "+
			"or move the data folder away to start a new hold", err)
	}
	if errors.Is(err, identity.ErrPLCForbidden) && !k.self().Registered {
		return err
	}
	if err != nil {
		k.log.Warn("the hold's identity could not be checked; it goes on with what is on disk and tries again", "did", k.self().DID,
			"error", err)
	}
	k.unchecked = err != nil
	return nil
}

// signAnew writes what followers need when the signing key is not the one of the newest commit, or the document has changed.
func (k *keeper) signAnew(ctx context.Context) error {
	id := k.self()
	signed, err := k.repo.Signed(ctx)
	if err != nil {
		return err
	}
	if signed {
		if k.announce.Swap(false) {
			if err = k.repo.Announce(ctx, id.Handle.String()); err != nil {
				k.announce.Store(true)
			}
		}
		return err
	}
	k.log.Warn("the signing key has changed: the identity is announced, and a commit signed by the new key follows", "did", id.DID)
	k.announce.Store(false)
	_, err = k.repo.Resign(ctx, id.Handle.String())
	return err
}

// keep checks it now and then, soon again while that fails, and when a key rotation is asked for, until ctx ends.
func (k *keeper) keep(ctx context.Context) {
	var asked time.Time // the rotation that was seen
	retry := identityRetry
	due := time.Now().Add(identityEvery)
	if k.unchecked {
		due = time.Now().Add(retry)
	}
	tick := time.NewTicker(identityLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ask := k.manager.RotationRequested()
		anew := !ask.IsZero() && !ask.Equal(asked)
		if asked = ask; !anew && time.Now().Before(due) {
			continue
		}
		if anew {
			k.log.Info("a key rotation is asked for", "did", k.self().DID)
			retry = identityRetry
		}
		switch err := k.check(ctx); {
		case err == nil:
			if retry > identityRetry || k.unchecked {
				k.log.Info("the hold's identity is checked", "did", k.self().DID)
			}
			due, retry, k.unchecked = time.Now().Add(identityEvery), identityRetry, false
		case ctx.Err() != nil:
			return
		default:
			due = time.Now().Add(retry)
			k.log.Warn("the hold's identity could not be checked", "did", k.self().DID, "again_in", retry, "error", err)
			retry = min(2*retry, identityRetryMost)
		}
	}
}

// named reports whether the hold is meant, by its DID or its handle.
func (k *keeper) named(actor string) bool {
	if did, err := syntax.ParseDID(actor); err == nil {
		return k.self().Is(did)
	}
	handle := k.self().Handle.String()
	return handle != "" && strings.EqualFold(actor, handle)
}

// rekeyGiven gives a repository that was opened before us the key that we have: the embedder may have read the one before a rotation that
// New finished.
func (k *keeper) rekeyGiven(ctx context.Context) error {
	id := k.self()
	pub, err := id.Key.PublicKey()
	if err != nil || pub.Equal(k.repo.PublicKey()) {
		return err
	}
	k.log.Warn("the given repository was opened with another key than the hold's, which it gets", "did", id.DID)
	_, err = k.repo.Rekey(ctx, id.Key, id.Handle.String())
	return err
}
