package holdcli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"filippo.io/age"

	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/sqldb"
)

type BackupCommands struct {
	HoldFile

	Create backupCreateCommand `cmd:"" default:"withargs" help:"Make a backup of identity, records and settings; also while the hold runs."`
	List   backupListCommand   `cmd:"" help:"List the sets of a target."`
	Verify backupVerifyCommand `cmd:"" help:"Check a set without restoring it: every file, the records' signature, every layer's digest."`
}

// target opens sets that were named, or backup.to. A folder that was named needs no configuration.
func (c *BackupCommands) target(std *cli.IO, to string) (backup.Target, error) {
	if to != "" && !strings.HasPrefix(to, "s3:") {
		return ReadTarget(to, config.Backup{})
	}
	settled, _, err := c.load(std)
	if err != nil {
		return nil, err
	}
	return ReadTarget(cmp.Or(to, settled.Backup.To), settled.Backup)
}

type backupCreateCommand struct {
	cli.JSONFlag
	Output     string `short:"o" help:"Folder or s3://bucket/prefix; else backup.to." placeholder:"TO"`
	Layers     *bool  `negatable:"" help:"With the layers, each once; else backup.layers says."`
	Recipient  string `help:"age public key (age1…) that may read the identity, or none to leave it out; else backup.recipient, else a passphrase."`
	Passphrase string `name:"passphrase-file" help:"File whose first line is the passphrase; else ATCR_PASSPHRASE." placeholder:"FILE"`
	Keep       int    `help:"Then remove older sets until so many are left; 0: remove none."`
}

func (c *backupCreateCommand) Run(ctx context.Context, std *cli.IO, all *BackupCommands, work *Scrypt) error {
	settled, h, err := all.load(std)
	if err != nil {
		return err
	}
	t, err := OpenTarget(cmp.Or(c.Output, settled.Backup.To), settled.Backup)
	if err != nil {
		return err
	}
	o, err := c.options(settled, h.Log, work)
	if err != nil {
		return err
	}
	dir, err := h.DataDir()
	if err != nil {
		return err
	}
	return WithDatabase(ctx, settled, func(db *sqldb.DB) error {
		dir.DB = db
		return c.create(ctx, std, t, dir, o)
	})
}

func (c *backupCreateCommand) create(ctx context.Context, std *cli.IO, t backup.Target, dir datadir.Config, o backup.Options) (err error) {
	parts, err := datadir.Read(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parts.Close()) }()
	bar := std.Progress()
	o.Progress = Progress(bar)
	m, err := backup.Create(ctx, t, parts, o)
	bar.Done(err)
	if err != nil {
		return err
	}
	var gone []string
	if c.Keep > 0 {
		gone, err = backup.Prune(ctx, t, parts, c.Keep)
	}
	made := struct {
		Manifest *backup.Manifest `json:"manifest"`
		Removed  []string         `json:"removed"`
	}{m, append([]string{}, gone...)}
	return errors.Join(err, c.Print(std, made, func() error {
		fmt.Fprintf(std.Out, "%s: %s\nsigned by %s\n", m.Name, Describe(m), m.SigningKey)
		for _, name := range gone {
			fmt.Fprintln(std.Out, "removed", name)
		}
		return nil
	}))
}

func (c *backupCreateCommand) options(settled *config.Hold, log *slog.Logger, work *Scrypt) (backup.Options, error) {
	o, err := BackupOptions(settled, log)
	if err == nil {
		err = Recipient(&o, "--recipient", c.Recipient)
	}
	if err != nil {
		return o, err
	}
	if len(o.Recipients) == 0 && !o.NoIdentity {
		one, err := ByPassphrase(c.Passphrase, work.Work)
		if err != nil {
			return o, fmt.Errorf("who may read the identity? give --recipient, or set backup.recipient: %w", err)
		}
		o.Recipients = []age.Recipient{one}
	}
	if c.Layers != nil {
		o.Layers = *c.Layers
	}
	return o, nil
}

type backupListCommand struct {
	cli.JSONFlag
	From string `arg:"" optional:"" help:"Folder or s3://bucket/prefix; else backup.to."`
}

func (c *backupListCommand) Run(ctx context.Context, std *cli.IO, all *BackupCommands) error {
	t, err := all.target(std, c.From)
	if err != nil {
		return err
	}
	sets, err := backup.List(ctx, t)
	if err != nil {
		return err
	}
	return PrintSets(std, c.JSONFlag, t, sets)
}

type backupVerifyCommand struct {
	cli.JSONFlag
	Unlock
	TrustFlags
	From  string `arg:"" optional:"" help:"Folder or s3://bucket/prefix; else backup.to."`
	At    string `help:"Name of the set; else the newest." placeholder:"NAME"`
	Quick bool   `help:"Don't read the layers, only look whether they are there."`
}

// trust is by the configuration where there is one, and by what is in the hold's folder. A folder of backups needs none.
func (c *backupVerifyCommand) trust(std *cli.IO, all *BackupCommands) (backup.Trust, error) {
	settled, h, err := all.load(std)
	if err == nil {
		dir, err := h.DataDir()
		if err != nil {
			return backup.Trust{}, err
		}
		did, own := knownIdentity(dir)
		return c.TrustFlags.trust(settled, did, own)
	}
	if all.Config != "" {
		return backup.Trust{}, err
	}
	if settled, err = config.ReadHold("", std.Environ); err != nil {
		return backup.Trust{}, err
	}
	return c.TrustFlags.trust(settled, "", nil)
}

func (c *backupVerifyCommand) Run(ctx context.Context, std *cli.IO, all *BackupCommands) error {
	t, err := all.target(std, c.From)
	if err != nil {
		return err
	}
	keys, err := c.Keys()
	if err != nil {
		return err
	}
	trust, err := c.trust(std, all)
	if err != nil {
		return err
	}
	bar := std.Progress()
	rep, err := backup.Verify(ctx, t, c.At, backup.VerifyOptions{Keys: keys, Trust: trust, Quick: c.Quick, Progress: Progress(bar)})
	bar.Done(err)
	if err != nil {
		return c.refused(c.Opened(err))
	}
	who := "not looked into: give --age-key"
	switch {
	case rep.Identity:
		who = "good"
	case !rep.Manifest.HasIdentity():
		who = "not in it"
	}
	good := struct {
		Name     string           `json:"name"`
		Identity string           `json:"identity"`
		Manifest *backup.Manifest `json:"manifest"`
	}{rep.Manifest.Name, who, rep.Manifest}
	return c.Print(std, good, func() error {
		_, err = fmt.Fprintf(std.Out, "%s is good: %s; identity %s\n", rep.Manifest.Name, Describe(rep.Manifest), who)
		if !rep.Manifest.Signed() {
			fmt.Fprintln(std.Err, "warning: it is not signed: who can write to the backups may have made it")
		}
		return err
	})
}
