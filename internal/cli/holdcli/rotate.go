package holdcli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/sqldb"
)

const (
	rotateWait = time.Minute            // for a running hold to have done a rotation; it begins within a second
	rotateLook = 200 * time.Millisecond // between looks at how far it is
)

type rotateCommand struct {
	change
	Signing  bool   `xor:"which" required:"" help:"The key that signs commits and service tokens."`
	Rotation bool   `xor:"which" required:"" help:"The key that may change the did:plc."`
	Type     string `default:"k256" enum:"k256,p256" help:"Of the new key."`
}

func (c *rotateCommand) Run(ctx context.Context, std *cli.IO, all *IdentityCommands) error {
	r, m, err := all.with(std, &c.change)
	if err != nil {
		return err
	}
	return (&rotateRun{r, c}).run(ctx, m)
}

// rotateRun is one run of it.
type rotateRun struct {
	*identityRun
	c *rotateCommand
}

// run rotates while no hold runs, or has the one that does do it.
func (r *rotateRun) run(ctx context.Context, m *plc.Manager) error {
	err := r.alter(func() error { return r.offline(ctx, m) })
	var busy *durable.LockedError
	if errors.As(err, &busy) {
		return r.rotateBeside(ctx, m, busy)
	}
	return err
}

// offline rotates, and tells followers of the repository.
func (r *rotateRun) offline(ctx context.Context, m *plc.Manager) error {
	before := m.Identity()
	o := r.rotation(r.c.DryRun)
	o.Unsigned = r.c.unsigned()
	done, err := m.Rotate(ctx, o)
	if now := m.Identity(); err == nil && !done.Submitted && now != before {
		return r.taken(ctx, m) // its operation was signed elsewhere
	}
	if err := r.report(done, err); err != nil || !done.Submitted || r.c.Rotation {
		if err == nil && len(done.Changes) > 0 && !done.Submitted {
			r.sayNext(done)
		}
		return err
	}
	return r.announce(ctx, m.Identity())
}

// taken reports a new key that the directory had already, and tells followers of the repository.
func (r *rotateRun) taken(ctx context.Context, m *plc.Manager) error {
	key := m.Identity().Key
	if r.c.Rotation {
		key = m.Identity().Rotation
	}
	pub, err := key.PublicKey()
	if err != nil {
		return err
	}
	if err := r.reportRotated(ctx, m, pub); err != nil || r.c.Rotation {
		return err
	}
	return r.announce(ctx, m.Identity())
}

// sayNext says what becomes of the new key of a plan.
func (r *rotateRun) sayNext(done *plc.Plan) {
	switch {
	case r.c.unsigned():
		fmt.Fprintln(r.says(), "The new key is kept, beside the old one with the suffix .offered. Call rotate-key again, without "+
			"--output-unsigned, as soon as the directory has the operation: until then the hold signs with the old one.")
	case done.Operation != nil:
		fmt.Fprintln(r.says(), "The new key in it was made for this dry run and is not kept: don't sign this, see --output-unsigned.")
	}
}

// rotateBeside has a running hold rotate a key: it alone knows from which commit on it signs with the new one. The folder is all that both
// share, so that it may run in another container of this machine. On another one, with the folder on a network share, only where locks
// reach there (durable.LockDir): else this is never called, and the key is rotated as if the hold were stopped. The hold
// takes such a key over at its next look at the directory (plc.Manager.CompleteRotations), hours later.
func (r *rotateRun) rotateBeside(ctx context.Context, m *plc.Manager, busy *durable.LockedError) error {
	if _, err := m.Rotate(ctx, r.rotation(true)); err != nil {
		return err // nothing is asked of it that can't be done
	}
	next, err := m.RequestRotation(ctx, r.rotation(false))
	if err != nil {
		return err
	}
	fmt.Fprintf(r.says(), "the hold runs (process %d): it is asked to take %s into use\n", busy.PID, next.DIDKey())
	ctx, stop := context.WithTimeout(ctx, rotateWait)
	defer stop()
	for {
		done, err := r.rotated(ctx, next)
		if done && err == nil {
			return r.reportRotated(ctx, m, next)
		}
		if err == nil {
			err = r.locked(func() error { return r.rotateStopped(ctx, next) })
		}
		if !errors.Is(err, durable.ErrLocked) && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the new key %s waits in its file, beside the old one with the suffix .next: the running hold (process "+
				"%d) has not taken it into use so far, and its log says why. "+
				"It goes on trying, and so does its next start. Or stop it, and call rotate-key again: %w",
				next.DIDKey(), busy.PID, ctx.Err())
		case <-time.After(rotateLook):
		}
	}
}

func (r *rotateRun) rotation(dryRun bool) plc.RotateOptions {
	o := plc.RotateOptions{Type: r.c.Type, DryRun: dryRun}
	if r.c.Rotation {
		o.Key = plc.RotationKey
	}
	return o
}

// current returns a manager of the identity on disk, and whether that has the new key.
func (r *rotateRun) current(next atcrypto.PublicKey) (*plc.Manager, bool, error) {
	m, err := r.manager()
	if err != nil {
		return nil, false, err
	}
	key := m.Identity().Key
	if r.c.Rotation {
		key = m.Identity().Rotation
	}
	if key == nil {
		return m, false, nil
	}
	pub, err := key.PublicKey()
	return m, err == nil && pub.Equal(next), err
}

// rotated: the new key is the hold's, and a new signing key has signed, so that followers know of it.
func (r *rotateRun) rotated(ctx context.Context, next atcrypto.PublicKey) (bool, error) {
	_, ours, err := r.current(next)
	if err != nil || !ours || r.c.Rotation {
		return ours, err
	}
	signed := false
	err = WithDatabase(ctx, r.conf, func(db *sqldb.DB) error {
		r.dir.DB = db
		o, err := datadir.ReadRepo(ctx, r.dir)
		if errors.Is(err, fs.ErrNotExist) { // it is only starting
			return nil
		}
		if err != nil {
			return err
		}
		signed, err = o.Repo.Signed(ctx)
		return errors.Join(err, o.Close())
	})
	return signed, err
}

// rotateStopped does what is left to do of a rotation when the hold was stopped meanwhile; it has the folder's lock.
func (r *rotateRun) rotateStopped(ctx context.Context, next atcrypto.PublicKey) error {
	m, ours, err := r.current(next)
	if err != nil {
		return err
	}
	if !ours {
		return r.offline(ctx, m)
	}
	if err := r.reportRotated(ctx, m, next); err != nil || r.c.Rotation {
		return err
	}
	return r.announce(ctx, m.Identity())
}

// reportRotated prints what the directory now says.
func (r *rotateRun) reportRotated(ctx context.Context, m *plc.Manager, next atcrypto.PublicKey) error {
	id := m.Identity()
	done := &plc.Plan{DID: id.DID, Changes: []string{"new key: " + next.DIDKey()}, Submitted: true}
	if id.DID.Method() != "plc" {
		return r.flag.Print(r.std, done, func() error {
			_, err := fmt.Fprintf(r.std.Out, "done: %s shows %s\n", id.DID, next.DIDKey())
			return err
		})
	}
	history, err := m.History(ctx)
	if err != nil {
		fmt.Fprintf(r.says(), "done: the hold has %s; the directory can't be asked for its log now: %v\n", next.DIDKey(), err)
		return r.flag.Print(r.std, done, func() error { return nil })
	}
	last := history[len(history)-1]
	done.Changes, done.CID = last.Changes, last.CID
	return r.flag.Print(r.std, done, func() error {
		for _, line := range last.Changes {
			fmt.Fprintln(r.std.Out, line)
		}
		_, err := fmt.Fprintf(r.std.Out, "done: operation %s of %s\n", last.CID, id.DID)
		return err
	})
}
