package holdcli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/sqldb"
)

// change is what every verb that changes something has.
type change struct {
	cli.JSONFlag
	DryRun         bool   `xor:"plan" help:"Show what would be done, and the operation that would be signed; change nothing."`
	OutputUnsigned string `xor:"plan" help:"Write the operation to FILE, not signed, for a rotation key that is kept elsewhere; submit nothing." placeholder:"FILE"`
}

// shows reports whether nothing is to be submitted.
func (c *change) shows() bool { return c.DryRun || c.OutputUnsigned != "" }

// unsigned reports whether the operation is to be signed elsewhere.
func (c *change) unsigned() bool { return c.OutputUnsigned != "" }

// checkFile refuses, before anything is done, a file that is there already.
func (c *change) checkFile() error {
	if c.OutputUnsigned == "" {
		return nil
	}
	_, err := os.Lstat(c.OutputUnsigned)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s exists already: name another file, or remove it first", c.OutputUnsigned)
	}
	return err
}

// write writes the operation of a plan.
func (c *change) write(p *plc.Plan) error {
	if c.OutputUnsigned == "" || p.Operation == nil {
		return nil
	}
	op, err := json.MarshalIndent(p.Operation, "", "  ")
	if err != nil {
		return err
	}
	return durable.CreateFile(c.OutputUnsigned, append(op, '\n'), 0o644)
}

type IdentityCommands struct {
	HoldFile

	Show           showCommand        `cmd:"" help:"Say who the hold is: DID, document, keys, what differs from the directory, and who may change it."`
	Log            logCommand         `cmd:"" help:"Tell the did:plc's history: time, signer, what changed."`
	RotateKey      rotateCommand      `cmd:"" help:"Give the hold a new key. It may run: then it takes the key into use without a restart."`
	AddRecoveryKey addRecoveryCommand `cmd:"" help:"Put a key of yours above all others in the rotation list. The hold may run."`
	Move           moveCommand        `cmd:"" help:"Name another address in the directory. Set server.public_url, too. The hold must be stopped."`
	Export         exportCommand      `cmd:"" help:"Write keys, DID and log into one file encrypted by age."`
	Import         importCommand      `cmd:"" help:"Bring an exported identity to this machine. The hold must be stopped."`
	Tombstone      tombstoneCommand   `cmd:"" help:"Give the did:plc up for good. Asks for the DID to be typed. The hold must be stopped."`
	Recover        recoverCommand     `cmd:"" help:"Undo an operation of the last 72 hours. The hold must be stopped."`
}

// identityRun is one run of a verb.
type identityRun struct {
	conf *config.Hold
	dir  datadir.Config
	cfg  identity.Config
	std  *cli.IO
	flag change // of a verb that changes something
}

// says is where a verb says something beside its result.
func (r *identityRun) says() io.Writer {
	if r.flag.JSON {
		return r.std.Err
	}
	return r.std.Out
}

// open reads the configuration.
func (c *IdentityCommands) open(std *cli.IO) (*identityRun, error) {
	settled, h, err := c.load(std)
	if err != nil {
		return nil, err
	}
	dir, err := h.DataDir()
	if err != nil {
		return nil, err
	}
	return &identityRun{conf: settled, dir: dir, cfg: dir.Identity, std: std}, nil
}

// with reads the hold's identity, too, for a verb that changes it.
func (c *IdentityCommands) with(std *cli.IO, flag *change) (*identityRun, *plc.Manager, error) {
	r, err := c.open(std)
	if err != nil {
		return nil, nil, err
	}
	r.flag = *flag
	if err := flag.checkFile(); err != nil {
		return nil, nil, err
	}
	m, err := r.manager()
	return r, m, err
}

// look is with for verbs that only show: also an identity whose signing key is an older one, put back.
func (c *IdentityCommands) look(std *cli.IO) (*plc.Manager, error) {
	r, err := c.open(std)
	if err != nil {
		return nil, err
	}
	r.cfg.AcceptKey = true
	return r.manager()
}

// manager returns one of the identity that is on disk now.
func (r *identityRun) manager() (*plc.Manager, error) {
	id, err := identity.Load(r.cfg)
	if err != nil {
		return nil, err
	}
	return plc.NewManager(id, r.cfg)
}

// locked keeps a running hold out.
func (r *identityRun) locked(f func() error) error {
	if err := durable.MkdirAll(r.dir.Dir, 0o700); err != nil {
		return err
	}
	lock, err := durable.LockDir(r.dir.Dir)
	if err != nil {
		return err
	}
	return errors.Join(f(), lock.Close())
}

// announce writes to the repository what its followers must see.
func (r *identityRun) announce(ctx context.Context, id *identity.Identity) error {
	return WithDatabase(ctx, r.conf, func(db *sqldb.DB) error {
		r.dir.DB = db
		return datadir.AnnounceIdentity(ctx, r.dir, id)
	})
}

// alter runs what changes the identity, while no hold runs. What changes nothing needs no lock.
func (r *identityRun) alter(f func() error) error {
	if r.flag.shows() {
		return f()
	}
	return r.locked(f)
}

type addRecoveryCommand struct {
	change
	DIDKey string `arg:"" name:"didkey" help:"Public key, did:key:z…; keep its private half elsewhere."`
}

func (c *addRecoveryCommand) Run(ctx context.Context, std *cli.IO, all *IdentityCommands) error {
	r, m, err := all.with(std, &c.change)
	if err != nil {
		return err
	}
	return r.report(m.AddRecoveryKey(ctx, plc.AddRecoveryKeyOptions{
		DIDKey: c.DIDKey, DryRun: c.DryRun, Unsigned: c.unsigned(),
	}))
}

type moveCommand struct {
	change
	PublicURL string `required:"" help:"New address, as in https://hold.example.org."`
}

func (c *moveCommand) Run(ctx context.Context, std *cli.IO, all *IdentityCommands) error {
	r, m, err := all.with(std, &c.change)
	if err != nil {
		return err
	}
	return r.alter(func() error {
		done, err := m.Move(ctx, plc.MoveOptions{PublicURL: c.PublicURL, DryRun: c.DryRun, Unsigned: c.unsigned()})
		if err := r.report(done, err); err != nil || !done.Submitted {
			return err
		}
		fmt.Fprintf(r.says(), "Set server.public_url to %s before the hold starts again, or it moves back.\n", c.PublicURL)
		return r.announce(ctx, m.Identity())
	})
}

type tombstoneCommand struct{ change }

func (c *tombstoneCommand) Run(ctx context.Context, std *cli.IO, all *IdentityCommands) error {
	r, m, err := all.with(std, &c.change)
	if err != nil {
		return err
	}
	return r.alter(func() error {
		confirm := ""
		if !c.shows() {
			fmt.Fprintf(r.says(), "%s will be given up: nobody finds the hold any more, and after 72 hours nothing brings it "+
				"back.\nType the DID to confirm: ", m.Identity().DID)
			var err error
			if confirm, err = FirstLine(std.In); err != nil {
				return err
			}
		}
		return r.report(m.Tombstone(ctx, plc.TombstoneOptions{Confirm: confirm, DryRun: c.DryRun, Unsigned: c.unsigned()}))
	})
}

type recoverCommand struct {
	change
	Undo string `help:"CID of the operation to undo, with all after it; without, the ones that can be are listed." placeholder:"CID"`
	Key  string `help:"File of a rotation key that stands higher than the one that signed it; else the hold's own." placeholder:"FILE"`
}

func (c *recoverCommand) Run(ctx context.Context, std *cli.IO, all *IdentityCommands) error {
	r, m, err := all.with(std, &c.change)
	if err != nil {
		return err
	}
	o := plc.RecoverOptions{Undo: c.Undo, DryRun: c.DryRun, Unsigned: c.unsigned()}
	if c.Key != "" {
		if o.Key, err = plc.LoadKey(c.Key); err != nil {
			return err
		}
	}
	if c.Undo == "" {
		return r.revocable(ctx, m, o.Key)
	}
	return r.alter(func() error {
		done, err := m.Recover(ctx, o)
		if err := r.report(done, err); err != nil || !done.Submitted {
			return err
		}
		return r.announce(ctx, m.Identity())
	})
}

// report prints a change, or what would be one.
func (r *identityRun) report(c *plc.Plan, err error) error {
	if err != nil {
		return err
	}
	if err := r.flag.write(c); err != nil {
		return err
	}
	return r.flag.Print(r.std, c, func() error { return r.print(c) })
}

func (r *identityRun) print(c *plc.Plan) error {
	if len(c.Changes) == 0 {
		_, err := fmt.Fprintln(r.std.Out, "nothing to change")
		return err
	}
	for _, line := range c.Changes {
		fmt.Fprintln(r.std.Out, line)
	}
	switch {
	case c.Operation == nil && c.Submitted:
		_, err := fmt.Fprintf(r.std.Out, "done: %s shows it when the hold is started\n", c.DID)
		return err
	case c.Operation == nil:
		_, err := fmt.Fprintln(r.std.Out, "dry run; nothing is submitted for a did:web")
		return err
	case r.flag.unsigned():
		_, err := fmt.Fprintf(r.std.Out, "written: %s, which is not signed. Sign it by a rotation key of %s, and submit it to the "+
			"directory.\n", r.flag.OutputUnsigned, c.DID)
		return err
	case !c.Submitted:
		op, err := json.MarshalIndent(c.Operation, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(r.std.Out, "dry run; this would be signed and submitted for %s:\n%s\n", c.DID, op)
		return err
	}
	_, err := fmt.Fprintf(r.std.Out, "done: operation %s of %s\n", c.CID, c.DID)
	return err
}

func (r *identityRun) revocable(ctx context.Context, m *plc.Manager, key atcrypto.PrivateKey) error {
	events, err := m.Revocable(ctx, key)
	if errors.Is(err, identity.ErrNoRotationKey) {
		return fmt.Errorf("%w: give --key", err)
	}
	if err != nil {
		return err
	}
	return r.flag.Print(r.std, append([]plc.Event{}, events...), func() error {
		if len(events) == 0 {
			return errors.New("nothing to recover: there is no operation that this key may undo now. It must stand higher in the " +
				"list than the key that signed, within 72 hours; another key is given by --key")
		}
		fmt.Fprintln(r.std.Out, "name one by --undo:")
		for _, e := range events {
			fmt.Fprintln(r.std.Out, e.CID, e.Time.UTC().Format("2006-01-02T15:04:05.000Z"))
		}
		return nil
	})
}
