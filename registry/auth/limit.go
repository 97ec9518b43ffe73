package auth

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/atcr-dev/atcr/registry"
)

const (
	maxSessions    = 20      // an account's
	maxAllSessions = 100_000 // everybody's
	trimEvery      = 1000    // new sessions after which everybody's are counted
	maxPDSToken    = 8 << 10 // bytes of one token that a PDS gives
)

// errSessionsInUse: there is nothing that could make room.
var errSessionsInUse = registry.ErrTooManyRequests.With(
	"%d sessions of this account have open uploads or pushes: let one of them end", maxSessions)

// tooLong is the refusal of a PDS's tokens. It is permanent.
func tooLong(pds string) error {
	return registry.ErrDenied.With("the account's server %s gives tokens of more than %d bytes, which this registry does not keep",
		hostOf(pds), maxPDSToken)
}

// add stores the session that a password made. An account that has [maxSessions] loses the least used one that no upload, push or delete
// needs. Errors: errSessionsInUse.
func (s *Sessions) add(ctx context.Context, did, password, pds string, t tokens) (id string, err error) {
	unlock, err := s.locks.Lock(ctx, "add "+did)
	if err != nil {
		return "", err
	}
	defer unlock()
	known, err := s.store.idOf(ctx, s.store.db.Read(), did, password)
	if err != nil {
		return "", fmt.Errorf("session of %s: %w", did, err)
	}
	var leave []string
	if known == "" {
		if leave, err = s.room(ctx, did); err != nil {
			return "", err
		}
	}
	if id, err = s.store.put(ctx, did, password, pds, t, s.clock(), leave); err != nil {
		return "", err
	}
	if known == "" && s.made.Add(1)%trimEvery == 0 {
		if err := s.trim(ctx); err != nil {
			s.log.Error("dropping the least used sessions", "err", err)
		}
	}
	return id, nil
}

// room returns which sessions of an account are to go so that one more may come.
func (s *Sessions) room(ctx context.Context, did string) (leave []string, err error) {
	all, err := s.store.leastUsed(ctx, did, 10*maxSessions) // more than maxSessions: from before there was a limit
	if err != nil || len(all) < maxSessions {
		return nil, err
	}
	used, err := s.inUse(ctx, did)
	if err != nil {
		return nil, err
	}
	over := len(all) - maxSessions + 1
	for _, p := range all {
		if len(leave) < over && !slices.Contains(used, p.id) {
			leave = append(leave, p.id)
		}
	}
	if len(leave) < over {
		e := *errSessionsInUse
		e.RetryAfter = time.Minute
		return nil, &e
	}
	s.log.Debug("sessions dropped for a new one of the account", "did", did, "count", len(leave))
	return leave, nil
}

// trim drops the least used sessions of all accounts above [maxAllSessions], but for those in use.
func (s *Sessions) trim(ctx context.Context) error {
	n, err := s.store.count(ctx)
	if err != nil || n <= s.max {
		return err
	}
	over := n - s.max
	all, err := s.store.leastUsed(ctx, "", 2*over)
	if err != nil {
		return err
	}
	dropped := 0
	for _, p := range all {
		if dropped == over {
			break
		}
		used, err := s.inUse(ctx, p.did)
		if err != nil {
			return err
		}
		if slices.Contains(used, p.id) {
			continue
		}
		if err := s.store.drop(ctx, p.id); err != nil {
			return fmt.Errorf("dropping a session: %w", err)
		}
		dropped++
	}
	s.log.Warn("there are too many sessions: the least used were dropped", "limit", s.max, "dropped", dropped)
	return nil
}
