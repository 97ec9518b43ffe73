package uploads

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atcr-dev/atcr/internal/room"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

// charge takes more of the shares of tails for an upload. Where a client's share or the total is used up, tails at rest of who takes
// more than the account make way: else who leaves enough of them would stop everybody's uploads until they run out.
func (u *Uploads) charge(ctx context.Context, s *state, more int64) error {
	shares := u.tails.shares
	charged := false
	try := func() bool {
		charged = charged || shares.Try(more, tailsOfAll, s.keys()...)
		return charged
	}
	full := func(key string) bool { return shares.UsedBy(key)+more > tailsOfOne }
	ofClient := func() bool { return s.Client != "" && full(clientKey(s.Client)) }
	if !try() {
		u.dropping.Lock()
		defer u.dropping.Unlock()
		if full(accountKey(s.Actor)) {
			return noShare(false)
		}
		if ofClient() {
			if err := u.drop(ctx, s.Actor, func() bool { return !ofClient() }, `tail > 0 and client = $1`, s.Client); err != nil {
				return err
			}
		}
		noUse := func() bool { return ofClient() || full(accountKey(s.Actor)) } // others' tails don't help
		if !noUse() && !try() {
			if err := u.drop(ctx, s.Actor, func() bool { return try() || noUse() }, `tail > 0`); err != nil {
				return err
			}
		}
		if !try() {
			return noShare(!noUse())
		}
	}
	s.charged += more
	return nil
}

// noShare is the error for a tail that has no room: in all, or in a share.
func noShare(all bool) error {
	e := registry.ErrTooManyRequests.With("the ends of uploads of one account or client wait here, and may take %d MiB: "+
		"finish some of the uploads, or cancel them", tailsOfOne>>20)
	if all {
		e = registry.ErrUnavailable.With("too many uploads wait here for their ends: try again later")
	}
	e.RetryAfter = 30 * time.Second
	return e
}

// drop drops tails at rest of those that a condition lists, for an account's sake, until that is enough or none is left that may go.
func (u *Uploads) drop(ctx context.Context, account string, enough func() bool, where string, args ...any) error {
	of, err := u.list(ctx, where, args...)
	if err != nil {
		return err
	}
	for _, r := range u.order(of, account) {
		if enough() {
			return nil
		}
		freed, err := u.dropTail(ctx, r.ID)
		if err != nil {
			return err
		}
		if freed > 0 {
			u.o.Log.Warn("too many ends of uploads wait: one at rest was dropped", "did", r.Owner, "bytes", freed)
		}
	}
	return nil
}

// makeRoomOnDisk is called when the disk is nearly full: the tail of an upload that nobody works on goes. Its client is told then to
// go on where the hold has come.
func (u *Uploads) makeRoomOnDisk(ctx context.Context, account string) (freed int64, err error) {
	of, err := u.resting(ctx)
	if err != nil {
		return 0, err
	}
	for _, r := range u.order(of, account) {
		freed, err := u.dropTail(ctx, r.ID)
		if err != nil {
			return 0, fmt.Errorf("make room: %w", err)
		}
		if freed > 0 {
			u.o.Log.Warn("the disk is nearly full: the end of an upload at rest was dropped", "did", r.Owner, "bytes", freed)
			return freed, nil
		}
	}
	return 0, nil
}

// order returns which of the uploads are to lose their tails first for an account's sake. The account counts with all that it has of
// the shares, also what is not in the table yet: who works on many uploads at once is not small.
func (u *Uploads) order(of []*state, account string) []room.Thing {
	inHand := u.tails.shares.UsedBy(accountKey(account))
	list := make([]room.Thing, 0, len(of))
	for _, s := range of {
		list = append(list, room.Thing{ID: s.ID, Owner: s.Actor, Size: s.Tail, Since: time.Unix(s.touched, 0)})
		if s.Actor == account {
			inHand -= s.Tail
		}
	}
	return room.Order(list, map[string]int64{account: max(inHand, 0)}, account, u.o.Clock())
}

// dropTail drops the tail of an upload at rest, and returns how many bytes it had: 0 when the upload isn't at rest.
func (u *Uploads) dropTail(ctx context.Context, id string) (freed int64, err error) {
	s, err := u.take(ctx, id)
	if errors.Is(err, registry.ErrUploadBusy) || errors.Is(err, registry.ErrUploadUnknown) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer u.free(s)
	if _, err := u.o.DB.Write().ExecContext(ctx, `update pds_upload set tail = 0 where id = $1`, s.ID); err != nil {
		return 0, fmt.Errorf("drop the tail of an upload: %w", sqlx.Wrap(err))
	}
	freed, s.Tail = s.Tail, 0 // as it is now: a request may have come between
	u.uncharge(s)
	return freed, nil
}
