package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"filippo.io/age"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/backup/s3target"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/sqldb"
)

// unlock is how an identity in a set is read.
type unlock struct {
	AgeKey     string `help:"File of age private keys that may read the identity; else a passphrase." placeholder:"FILE"`
	Passphrase string `name:"passphrase-file" help:"File whose first line is the passphrase; else ATCR_PASSPHRASE." placeholder:"FILE"`
}

type backupCommands struct {
	holdFile

	Create backupCreateCommand `cmd:"" default:"withargs" help:"Make a backup of identity, records and settings; also while the hold runs."`
	List   backupListCommand   `cmd:"" help:"List the sets of a target."`
	Verify backupVerifyCommand `cmd:"" help:"Check a set without restoring it: every file, the records' signature, every layer's digest."`
}

// target opens what was named, or backup.to. A folder that was named needs no configuration.
func (c *backupCommands) target(std *cli.IO, to string) (backup.Target, error) {
	if to != "" && !strings.HasPrefix(to, "s3:") {
		return openTarget(to, config.Backup{})
	}
	settled, _, err := c.load(std)
	if err != nil {
		return nil, err
	}
	return openTarget(cmp.Or(to, settled.Backup.To), settled.Backup)
}

type restoreCommand struct {
	unlock
	holdFile
	From   string `arg:"" help:"Folder or s3://bucket/prefix of the backups."`
	At     string `help:"Name of the set; else the newest." placeholder:"NAME"`
	Layers bool   `default:"true" negatable:"" help:"Bring the layers of the set into storage, too."`
	DryRun bool   `help:"Check all, say what would be restored; change nothing."`
}

// openTarget takes a folder or a bucket.
func openTarget(to string, b config.Backup) (backup.Target, error) {
	switch {
	case to == "":
		return nil, errors.New("where to? name a folder or s3://bucket/prefix, or set backup.to")
	case strings.HasPrefix(to, "s3:"):
		t, err := s3target.Open(to, s3target.Options{Endpoint: b.Endpoint, Region: b.Region, AccessKey: b.AccessKey, SecretKey: b.SecretKey})
		if err != nil {
			return nil, fmt.Errorf("backups (backup.endpoint, backup.region, backup.access_key, backup.secret_key): %w", err)
		}
		return t, nil
	case strings.Contains(to, "://"):
		return nil, fmt.Errorf("%s: name a folder or s3://bucket/prefix", config.Shown(to))
	}
	return backup.OpenFolder(to)
}

// backupOptions are those of the configuration.
func backupOptions(c *config.Hold, log *slog.Logger) (backup.Options, error) {
	o := backup.Options{Layers: c.Backup.Layers, Keep: c.Backup.Keep, Version: config.Version(), Log: log}
	var text bytes.Buffer
	if err := config.Write(&text, config.YAML, c); err != nil {
		return o, err
	}
	o.Config = text.Bytes()
	return o, recipient(&o, "backup.recipient", c.Backup.Recipient)
}

func recipient(o *backup.Options, from, text string) error {
	switch text {
	case "":
		return nil
	case config.NoRecipient:
		o.Recipients, o.NoIdentity = nil, true
		o.Log.Warn("the identity is left out of the backup: without an export of your own (atcr-hold identity export) a lost hold does not come back as itself")
		return nil
	}
	to, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil && !strings.HasPrefix(text, "age1") {
		return fmt.Errorf("%s is no public key of age (not shown, it may be a private one): write age1…, or none", from)
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", from, text, err)
	}
	o.Recipients, o.NoIdentity = to, false
	return nil
}

// schedule is the backups of the running hold; nil: none.
func schedule(c *config.Hold, log *slog.Logger) (*hold.BackupSchedule, error) {
	if c.Backup.Every == 0 {
		return nil, nil
	}
	o, err := backupOptions(c, log)
	if err != nil {
		return nil, err
	}
	return &hold.BackupSchedule{
		Every: c.Backup.Every, Run: o.Job(func(context.Context) (backup.Target, error) { return openTarget(c.Backup.To, c.Backup) }),
	}, nil
}

type backupCreateCommand struct {
	Output     string `short:"o" help:"Folder or s3://bucket/prefix; else backup.to." placeholder:"TO"`
	Layers     *bool  `negatable:"" help:"With the layers, each once; else backup.layers says."`
	Recipient  string `help:"age public key (age1…) that may read the identity, or none to leave it out; else backup.recipient, else a passphrase."`
	Passphrase string `name:"passphrase-file" help:"File whose first line is the passphrase; else ATCR_PASSPHRASE." placeholder:"FILE"`
	Keep       int    `help:"Then remove older sets until so many are left; 0: remove none."`
}

func (c *backupCreateCommand) Run(ctx context.Context, std *cli.IO, all *backupCommands, work *scrypt) error {
	settled, h, err := all.load(std)
	if err != nil {
		return err
	}
	t, err := openTarget(cmp.Or(c.Output, settled.Backup.To), settled.Backup)
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
	return withDatabase(ctx, settled, func(db *sqldb.DB) error {
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
	m, err := backup.Create(ctx, t, parts, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "%s: %s\n", m.Name, describe(m))
	if c.Keep <= 0 {
		return nil
	}
	gone, err := backup.Prune(ctx, t, parts, c.Keep)
	for _, name := range gone {
		fmt.Fprintln(std.Out, "removed", name)
	}
	return err
}

func (c *backupCreateCommand) options(settled *config.Hold, log *slog.Logger, work *scrypt) (backup.Options, error) {
	o, err := backupOptions(settled, log)
	if err == nil {
		err = recipient(&o, "--recipient", c.Recipient)
	}
	if err != nil {
		return o, err
	}
	if len(o.Recipients) == 0 && !o.NoIdentity {
		one, err := byPassphrase(c.Passphrase, work.work)
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

func describe(m *backup.Manifest) string {
	text := fmt.Sprintf("%s, revision %s, %d records", m.DID, m.Rev, m.Records)
	if l := m.Layers; l != nil {
		text += fmt.Sprintf(", %d layers of %d bytes (%d new)", l.Count, l.Bytes, l.Copied)
		if l.Missing > 0 {
			text += fmt.Sprintf(", %d LAYERS MISSING", l.Missing)
		}
	}
	if !m.HasIdentity() {
		text += ", NO IDENTITY"
	}
	return text
}

type backupListCommand struct {
	From string `arg:"" optional:"" help:"Folder or s3://bucket/prefix; else backup.to."`
}

func (c *backupListCommand) Run(ctx context.Context, std *cli.IO, all *backupCommands) error {
	t, err := all.target(std, c.From)
	if err != nil {
		return err
	}
	sets, err := backup.List(ctx, t)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
	for _, s := range sets {
		text := "not whole: broken off, or being made"
		switch {
		case s.Err != nil:
			text = s.Err.Error()
		case s.Whole():
			text = s.Manifest.Created.Format(time.RFC3339) + "\t" + describe(s.Manifest)
		}
		fmt.Fprintf(w, "%s\t%s\n", s.Name, text)
	}
	return w.Flush()
}

// keys are who reads the identity; none when nothing was given.
func (u *unlock) keys() ([]age.Identity, error) {
	if u.AgeKey != "" {
		f, err := os.Open(u.AgeKey)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		keys, err := age.ParseIdentities(f)
		if err != nil {
			return nil, fmt.Errorf("--age-key %s: %w", u.AgeKey, err)
		}
		return keys, nil
	}
	if u.Passphrase == "" && os.Getenv("ATCR_PASSPHRASE") == "" {
		return nil, nil
	}
	secret, err := passphrase(u.Passphrase)
	if err != nil {
		return nil, err
	}
	one, err := age.NewScryptIdentity(secret)
	return []age.Identity{one}, err
}

type backupVerifyCommand struct {
	unlock
	From  string `arg:"" optional:"" help:"Folder or s3://bucket/prefix; else backup.to."`
	At    string `help:"Name of the set; else the newest." placeholder:"NAME"`
	Quick bool   `help:"Don't read the layers, only look whether they are there."`
}

func (c *backupVerifyCommand) Run(ctx context.Context, std *cli.IO, all *backupCommands) error {
	t, err := all.target(std, c.From)
	if err != nil {
		return err
	}
	keys, err := c.keys()
	if err != nil {
		return err
	}
	rep, err := backup.Verify(ctx, t, c.At, backup.VerifyOptions{Keys: keys, Quick: c.Quick})
	if err != nil {
		return err
	}
	who := "not looked into: give --age-key"
	switch {
	case rep.Identity:
		who = "good"
	case !rep.Manifest.HasIdentity():
		who = "not in it"
	}
	_, err = fmt.Fprintf(std.Out, "%s is good: %s; identity %s\n", rep.Manifest.Name, describe(rep.Manifest), who)
	return err
}

func (c *restoreCommand) Run(ctx context.Context, std *cli.IO) error {
	settled, cfg, err := c.load(std)
	if err != nil {
		return err
	}
	keys, err := c.keys()
	if err != nil {
		return err
	}
	t, err := openTarget(c.From, settled.Backup)
	if err != nil {
		return err
	}
	dir, err := cfg.DataDir()
	if err != nil {
		return err
	}
	var res *backup.Restored
	err = withDatabase(ctx, settled, func(db *sqldb.DB) (err error) {
		dir.DB = db
		res, err = backup.Restore(ctx, t, c.At, dir, backup.RestoreOptions{Keys: keys, NoLayers: !c.Layers, DryRun: c.DryRun})
		return err
	})
	if errors.Is(err, datadir.ErrNotEmpty) {
		return fmt.Errorf("%w (Dir is database.path)", err)
	}
	if err != nil {
		return err
	}
	done := "restored"
	if c.DryRun {
		done = "dry run; this would be restored"
	}
	fmt.Fprintf(std.Out, "%s into %s: %s\n", done, cfg.Dir, describe(res.Manifest))
	if res.Layers+res.Present > 0 {
		fmt.Fprintf(std.Out, "layers: %d brought, %d were there\n", res.Layers, res.Present)
	}
	if res.Missing > 0 {
		fmt.Fprintf(std.Err, "warning: %d layers that records name are not in the storage; images with them can't be pulled:\n", res.Missing)
		for _, d := range res.First {
			fmt.Fprintln(std.Err, " ", d)
		}
	}
	return nil
}
