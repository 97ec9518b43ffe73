package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/internal/durable"
)

// change is what every verb that changes something has.
type change struct {
	DryRun bool `help:"Show what would be done, and the operation that would be signed; change nothing."`
}

type identityCommands struct {
	scryptWork int

	Config string `help:"Configuration file of the hold." placeholder:"FILE"`

	Show struct {
		JSON bool `name:"json" help:"As JSON."`
	} `cmd:"" help:"Say who the hold is: DID, document, keys, what differs from the directory, and who may change it."`
	Log struct {
		JSON bool `name:"json" help:"As JSON."`
	} `cmd:"" help:"Tell the did:plc's history: time, signer, what changed."`
	RotateKey struct {
		change
		Signing  bool   `xor:"which" required:"" help:"The key that signs commits and service tokens."`
		Rotation bool   `xor:"which" required:"" help:"The key that may change the did:plc."`
		Type     string `default:"k256" enum:"k256,p256" help:"Of the new key."`
	} `cmd:"" help:"Give the hold a new key. It may run: then it takes the key into use without a restart."`
	AddRecoveryKey struct {
		change
		DIDKey string `arg:"" name:"didkey" help:"Public key, did:key:z…; keep its private half elsewhere."`
	} `cmd:"" help:"Put a key of yours above all others in the rotation list. The hold may run."`
	Move struct {
		change
		PublicURL string `required:"" help:"New address, as in https://hold.example.org."`
	} `cmd:"" help:"Name another address in the directory. Set server.public_url, too. The hold must be stopped."`
	Export struct {
		File       string   `arg:"" help:"File to write; - is standard output."`
		Recipient  []string `help:"age public key (age1…) that may read it; else a passphrase."`
		Passphrase string   `name:"passphrase-file" help:"File whose first line is the passphrase; else ATCR_PASSPHRASE." placeholder:"FILE"`
	} `cmd:"" help:"Write keys, DID and log into one file encrypted by age."`
	Import struct {
		change
		File       string `arg:"" help:"File of an export; - is standard input."`
		AgeKey     string `help:"File of age private keys; else a passphrase." placeholder:"FILE"`
		Passphrase string `name:"passphrase-file" help:"File whose first line is the passphrase; else ATCR_PASSPHRASE." placeholder:"FILE"`
	} `cmd:"" help:"Bring an exported identity to this machine. The hold must be stopped."`
	Tombstone struct {
		change
	} `cmd:"" help:"Give the did:plc up for good. Asks for the DID to be typed. The hold must be stopped."`
	Recover struct {
		change
		Undo string `help:"CID of the operation to undo, with all after it; without, the ones that can be are listed." placeholder:"CID"`
		Key  string `help:"File of a rotation key that stands higher than the one that signed it; else the hold's own." placeholder:"FILE"`
	} `cmd:"" help:"Undo an operation of the last 72 hours. The hold must be stopped."`
}

// identityRun is one run of a verb.
type identityRun struct {
	c      *identityCommands
	hold   hold.Config
	cfg    identity.Config
	stdin  io.Reader
	stdout io.Writer
}

func runIdentity(ctx context.Context, verb string, c *identityCommands, stdin io.Reader, stdout, stderr io.Writer) error {
	settled, _, err := config.LoadHold(c.Config, os.Environ())
	if err != nil {
		return err
	}
	r := &identityRun{c: c, stdin: stdin, stdout: stdout}
	r.hold = settings(settled, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if r.cfg, err = r.hold.IdentityConfig(); err != nil {
		return err
	}
	verb, _, _ = strings.Cut(verb, " ") // without the names of arguments
	switch verb {
	case "import":
		return r.locked(r.importFile)
	case "export":
		return r.export()
	}
	id, err := identity.Load(r.cfg)
	if err != nil {
		return err
	}
	switch verb {
	case "show":
		return r.show(ctx, id)
	case "log":
		return r.log(ctx, id)
	case "add-recovery-key":
		done, err := identity.AddRecoveryKey(ctx, id, r.cfg, c.AddRecoveryKey.DIDKey, c.AddRecoveryKey.DryRun)
		return r.report(done, err)
	}
	return r.alter(ctx, verb, id)
}

// alter runs a verb that changes the identity, while no hold runs; a rotation is left to one that does. What changes nothing needs no lock.
func (r *identityRun) alter(ctx context.Context, verb string, id *identity.Identity) error {
	c := r.c
	for name, looks := range map[string]bool{
		"rotate-key": c.RotateKey.DryRun, "move": c.Move.DryRun, "tombstone": c.Tombstone.DryRun, "recover": c.Recover.DryRun || c.Recover.Undo == "",
	} {
		if name == verb && looks {
			return r.offline(ctx, verb, id)
		}
	}
	err := r.locked(func() error { return r.offline(ctx, verb, id) })
	var busy *durable.LockedError
	if verb == "rotate-key" && errors.As(err, &busy) {
		return r.rotateBeside(ctx, id, busy)
	}
	return err
}

// locked keeps a running hold out.
func (r *identityRun) locked(f func() error) error {
	if err := durable.MkdirAll(r.hold.Dir, 0o700); err != nil {
		return err
	}
	lock, err := durable.LockDir(r.hold.Dir)
	if err != nil {
		return err
	}
	return errors.Join(f(), lock.Close())
}

// offline are the verbs after which followers of the repository must be told.
func (r *identityRun) offline(ctx context.Context, verb string, id *identity.Identity) (err error) {
	var done *identity.PLCChange
	fresh := id
	switch verb {
	case "rotate-key":
		fresh, done, err = r.rotation()(ctx, id, r.cfg, r.c.RotateKey.Type, r.c.RotateKey.DryRun)
	case "move":
		done, err = identity.Move(ctx, id, r.cfg, r.c.Move.PublicURL, r.c.Move.DryRun)
	case "tombstone":
		confirm := ""
		if !r.c.Tombstone.DryRun {
			fmt.Fprintf(r.stdout, "%s will be given up: nobody finds the hold any more, and after 72 hours nothing brings it back.\nType the DID to confirm: ", id.DID)
			if confirm, err = firstLine(r.stdin); err != nil {
				return err
			}
		}
		done, err = identity.Tombstone(ctx, id, r.cfg, confirm, r.c.Tombstone.DryRun)
	case "recover":
		var key atcrypto.PrivateKey = id.Rotation
		if r.c.Recover.Key != "" {
			if key, err = identity.LoadKey(r.c.Recover.Key); err != nil {
				return err
			}
		}
		if r.c.Recover.Undo == "" {
			return r.undoable(ctx, id, key)
		}
		done, err = identity.Recover(ctx, id, r.cfg, r.c.Recover.Undo, key, r.c.Recover.DryRun)
	default:
		return fmt.Errorf("no verb %q", verb)
	}
	if err := r.report(done, err); err != nil || !done.Submitted {
		return err
	}
	if verb == "move" {
		fmt.Fprintf(r.stdout, "Set server.public_url to %s before the hold starts again, or it moves back.\n", r.c.Move.PublicURL)
	}
	if verb == "tombstone" || verb == "rotate-key" && r.c.RotateKey.Rotation {
		return nil
	}
	return hold.AnnounceIdentity(ctx, r.hold, fresh)
}

// report prints a change.
func (r *identityRun) report(c *identity.PLCChange, err error) error {
	if err != nil {
		return err
	}
	if len(c.Differences) == 0 {
		_, err := fmt.Fprintln(r.stdout, "nothing to change")
		return err
	}
	for _, line := range c.Differences {
		fmt.Fprintln(r.stdout, line)
	}
	switch {
	case c.Operation == nil && c.Submitted:
		_, err := fmt.Fprintf(r.stdout, "done: %s shows it when the hold is started\n", c.DID)
		return err
	case c.Operation == nil:
		_, err := fmt.Fprintln(r.stdout, "dry run; nothing is submitted for a did:web")
		return err
	case !c.Submitted:
		op, err := json.MarshalIndent(c.Operation.AsOpEnum(), "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(r.stdout, "dry run; this would be submitted for %s:\n%s\n", c.DID, op)
		return err
	}
	_, err = fmt.Fprintf(r.stdout, "done: operation %s of %s\n", c.CID, c.DID)
	return err
}

func (r *identityRun) undoable(ctx context.Context, id *identity.Identity, key atcrypto.PrivateKey) error {
	if key == nil {
		return fmt.Errorf("%w: give --key", identity.ErrNoRotationKey)
	}
	log, err := identity.ReadPLCLog(ctx, id, r.cfg)
	if err != nil {
		return err
	}
	entries := identity.Undoable(log, key, time.Now())
	if len(entries) == 0 {
		_, err := fmt.Fprintln(r.stdout, "there is no operation that this key may undo now: it must stand higher in the list than the key that signed, within 72 hours")
		return err
	}
	fmt.Fprintln(r.stdout, "name one by --undo:")
	for _, e := range entries {
		fmt.Fprintln(r.stdout, e.CID, e.CreatedAt)
	}
	return nil
}
