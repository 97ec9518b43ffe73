package holdcli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/sqldb"
)

type RestoreCommand struct {
	cli.JSONFlag
	Unlock
	HoldFile
	TrustFlags
	From   string `arg:"" help:"Folder or s3://bucket/prefix of the backups."`
	At     string `help:"Name of the set; else the newest." placeholder:"NAME"`
	Layers bool   `default:"true" negatable:"" help:"Bring the layers of the set into storage, too."`
	DryRun bool   `help:"Check all, say what would be restored; change nothing."`
	Yes    bool   `help:"Don't ask: take a set that nothing vouches for and, without a configuration, the one of the set."`
}

func (c *RestoreCommand) Run(ctx context.Context, std *cli.IO) error {
	settled, _, err := config.LoadHold(c.Config, std.Environ)
	own := err == nil
	if err != nil && c.Config != "" {
		return err
	}
	if !own { // for the keys of a bucket
		if settled, err = config.ReadHold("", std.Environ); err != nil {
			return err
		}
	}
	keys, err := c.Keys()
	if err != nil {
		return err
	}
	t, err := ReadTarget(c.From, settled.Backup)
	if err != nil {
		return err
	}
	// What a set says is not asked whom to trust: neither its configuration nor the DID in it.
	trust, err := c.trust(settled, "", nil)
	if err != nil {
		return err
	}
	if !own {
		if settled, err = c.ofSet(ctx, std, t, trust); err != nil {
			return c.refused(err)
		}
	}
	dir, err := Settings(settled, cli.Logger(std, slog.LevelWarn)).DataDir()
	if err != nil {
		return err
	}
	if own {
		trust.DID, _ = knownIdentity(dir)
	}
	o := backup.RestoreOptions{Keys: keys, Trust: trust, OwnFolder: own, NoLayers: !c.Layers, DryRun: c.DryRun,
		Show: func(claims *backup.Claims) { showClaims(std.Err, claims) }, Confirm: c.confirm(std, dir.Dir)}
	var res *backup.Restored
	err = WithDatabase(ctx, settled, func(db *sqldb.DB) (err error) {
		dir.DB = db
		bar := std.Progress()
		o.Progress = Progress(bar)
		res, err = backup.Restore(ctx, t, c.At, dir, o)
		bar.Done(err)
		return err
	})
	if errors.Is(err, datadir.ErrNotEmpty) {
		return fmt.Errorf("%w (Dir is database.path)", err)
	}
	if err != nil {
		return c.refused(c.Opened(err))
	}
	err = c.Print(std, restoredJSON(res, dir.Dir, c.DryRun), func() error { return printRestored(std.Out, res, dir.Dir, c.DryRun) })
	if err != nil {
		return err
	}
	warnMissing(std.Err, res)
	if !own && !c.DryRun {
		says := std.Out
		if c.JSON {
			says = std.Err
		}
		fmt.Fprintf(says, "its configuration: sets/%s/config.yaml of %s; keep a copy, set what is secret and its section "+
			"backup, then: atcr-hold serve --config FILE\n", res.Manifest.Name, t)
	}
	return nil
}

// confirm asks about a set that nothing vouches for.
func (c *RestoreCommand) confirm(std *cli.IO, into string) func(context.Context, *backup.Claims) error {
	if !c.Yes && !c.DryRun {
		return confirm(std, into)
	}
	return func(_ context.Context, claims *backup.Claims) error {
		_, err := fmt.Fprintf(std.Err, "warning: %v\n", claims.Unproven)
		return err
	}
}

// ofSet shows the configuration that the set was made with, and asks whether to restore by it: together with the set, when that has to be
// asked about anyway.
func (c *RestoreCommand) ofSet(ctx context.Context, std *cli.IO, t backup.Target, trust backup.Trust) (*config.Hold, error) {
	text, set, err := backup.ReadConfig(ctx, t, c.At, trust)
	if err != nil {
		return nil, err
	}
	if text == nil {
		return nil, cli.Usagef("the set %s holds no configuration: give --config FILE", set)
	}
	name := "config.yaml of the set " + set
	settled, err := config.LoadHoldText(name, text, std.Environ)
	if err != nil {
		return nil, fmt.Errorf("%w\ngive --config FILE in its place", err)
	}
	fmt.Fprintf(std.Err, "No configuration was given. The %s says:\n", name)
	for _, line := range config.Changed(settled) {
		fmt.Fprintln(std.Err, "  "+line)
	}
	fmt.Fprintln(std.Err, "Secrets are not in it: HOLD_DATABASE_URL and the like are taken from the environment.")
	if c.Yes || c.DryRun || len(trust.Keys) == 0 { // without keys nothing vouches for the set
		return settled, nil
	}
	return settled, ask(std, settled.Database.Path, "give --config FILE, or --yes to take the configuration of the set")
}
