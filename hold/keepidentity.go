package hold

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/crashpoint"
)

// self is who the hold is. A key rotation puts another in its place.
type self struct {
	*identity.Identity
	wellKnown http.Handler
}

func newSelf(id *identity.Identity) *self {
	return &self{Identity: id, wellKnown: identity.WellKnown(id)}
}

func (s *Server) self() *self { return s.id.Load() }

// lookAfterIdentity keeps others who would change the identity or its entry in the directory out, until done is called.
func (s *Server) lookAfterIdentity(ctx context.Context) (done func(), err error) {
	select {
	case s.idTurn <- struct{}{}:
		return func() { <-s.idTurn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// CheckIdentity does once what New and [Server.Run] do: it finishes key rotations that were asked for or broken off, brings the
// directory's entry of a did:plc in line with the hold (identity.EnsurePLCCurrent), and tells followers of the repository when
// something changed. While a rotation fails in a way that leaves open which key is the right one, the entry is left alone. Errors are those of
// plc.Manager.CompleteRotations and identity.EnsurePLCCurrent; the hold goes on after each.
func (s *Server) CheckIdentity(ctx context.Context) error {
	done, err := s.lookAfterIdentity(ctx)
	if err != nil {
		return err
	}
	defer done()
	ctx = crashpoint.With(ctx, s.crash)
	err = s.manager.CompleteRotations(ctx)
	// After other errors our key may be the old one, which must not go back into the directory. A directory that does not know us yet is to be
	// told first, and without a rotation key nothing is changed.
	compare := err == nil || errors.Is(err, identity.ErrPLCNotFound) || errors.Is(err, identity.ErrNoRotationKey)
	err = errors.Join(err, s.become(ctx, s.manager.Identity()))
	var perr error
	if compare {
		var status *identity.PLCStatus
		status, perr = identity.EnsurePLCCurrent(ctx, s.self().Identity, s.cfg.Identity)
		if status != nil && status.Updated {
			s.announce.Store(true)
		}
	}
	if s.repo != nil {
		perr = errors.Join(perr, s.signAnew(ctx))
	}
	return errors.Join(err, perr)
}

// RotateSigningKey gives the running hold a new signing key: plc.Manager.Rotate, and then the document that it serves, an #identity
// event and all commits are by the new key; until the directory shows the new key, commits are signed by the old one. Service
// tokens and links that were given out stay good. It waits for a CheckIdentity that is under way.
//
// Errors: those of plc.Manager.Rotate. After one the old key may be in use, and the new one lie beside it: then [Server.Run],
// CheckIdentity, the next start or another call finish the rotation. When the directory has been seen to name the new key it is in use, also when
// its file could not get the old one's name, and whatever the repository does with the event, which is written before its next commit.
func (s *Server) RotateSigningKey(ctx context.Context, keyType string) (*plc.Plan, error) {
	done, err := s.lookAfterIdentity(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx = crashpoint.With(ctx, s.crash)
	plan, err := s.manager.Rotate(ctx, plc.RotateOptions{Type: keyType})
	return plan, errors.Join(err, s.become(ctx, s.manager.Identity()))
}

// become takes new keys into use. The document is first: whoever hears of the new signing key by the event reads it there.
func (s *Server) become(ctx context.Context, fresh *identity.Identity) error {
	old := s.self()
	if fresh == old.Identity {
		return nil
	}
	s.id.Store(newSelf(fresh))
	if s.repo == nil || fresh.Key.Equal(old.Key) { // at the start the repository is opened with the new key
		return nil
	}
	_, err := s.repo.Rekey(context.WithoutCancel(ctx), fresh.Key, fresh.Handle.String())
	if err != nil {
		return fmt.Errorf("the new signing key is in use; followers hear of it with the next commit: %w", err)
	}
	s.log.Info("the hold signs with a new key", "did", fresh.DID)
	return nil
}

// checkIdentityAtBoot goes on whatever the directory does, except when it says that the DID was given up, and when the new DID can never be
// registered there.
func (s *Server) checkIdentityAtBoot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, identityWait)
	defer cancel()
	err := s.CheckIdentity(ctx)
	if errors.Is(err, identity.ErrPLCTombstone) {
		return fmt.Errorf("%w: undo it with a higher rotation key (atcr-hold identity recover, within 72 hours), or move the data folder away to start a new hold", err)
	}
	if errors.Is(err, identity.ErrPLCForbidden) && !s.self().Registered {
		return err
	}
	if err != nil {
		s.log.Warn("the hold's identity could not be checked; it goes on with what is on disk and tries again", "did", s.self().DID, "error", err)
	}
	s.unchecked = err != nil
	return nil
}

// signAnew writes what followers need when the signing key is not the one of the newest commit, or the document has changed.
func (s *Server) signAnew(ctx context.Context) error {
	id := s.self()
	signed, err := s.repo.Signed(ctx)
	if err != nil {
		return err
	}
	if signed {
		if s.announce.Swap(false) {
			if err = s.repo.Announce(ctx, id.Handle.String()); err != nil {
				s.announce.Store(true)
			}
		}
		return err
	}
	s.log.Warn("the signing key has changed: the identity is announced, and a commit signed by the new key follows", "did", id.DID)
	s.announce.Store(false)
	_, err = s.repo.Resign(ctx, id.Handle.String())
	return err
}

// keepIdentity checks it now and then, soon again while that fails, and when a key rotation is asked for, until ctx ends.
func (s *Server) keepIdentity(ctx context.Context) {
	var asked time.Time // the rotation that was seen
	retry := identityRetry
	due := time.Now().Add(identityEvery)
	if s.unchecked {
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
		ask := s.manager.RotationRequested()
		anew := !ask.IsZero() && !ask.Equal(asked)
		if asked = ask; !anew && time.Now().Before(due) {
			continue
		}
		if anew {
			s.log.Info("a key rotation is asked for", "did", s.self().DID)
			retry = identityRetry
		}
		switch err := s.CheckIdentity(ctx); {
		case err == nil:
			if retry > identityRetry || s.unchecked {
				s.log.Info("the hold's identity is checked", "did", s.self().DID)
			}
			due, retry, s.unchecked = time.Now().Add(identityEvery), identityRetry, false
		case ctx.Err() != nil:
			return
		default:
			due = time.Now().Add(retry)
			s.log.Warn("the hold's identity could not be checked", "did", s.self().DID, "again_in", retry, "error", err)
			retry = min(2*retry, identityRetryMost)
		}
	}
}
