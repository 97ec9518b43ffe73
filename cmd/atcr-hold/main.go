// Command atcr-hold runs a hold: it stores layers of container images for its crew, and gives them out.
//
//	atcr-hold config init hold.yaml       # every setting, explained
//	atcr-hold config check --config hold.yaml
//	atcr-hold serve --config hold.yaml
//	atcr-hold identity --config hold.yaml show    # and log, rotate-key, move, export, …
//	atcr-hold backup --config hold.yaml -o /mnt/backups --layers    # and list, verify
//	atcr-hold restore --config hold.yaml --age-key key.txt /mnt/backups
//
// Settings can also come from the environment, as HOLD_SERVER_PUBLIC_URL. SIGINT and SIGTERM let running requests end, then stop;
// a second one stops at once.
package main

import (
	"context"
	"log/slog"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/cli/holdcli"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/sqldb"
)

type commands struct {
	Serve  serveCommand `cmd:"" help:"Run the hold."`
	Config struct {
		Init  cli.ConfigInit `cmd:"" help:"Write a configuration with every setting, explained."`
		Check checkCommand   `cmd:"" help:"Say what is wrong with a configuration, and what would not work with it."`
	} `cmd:"" help:"Make or check a configuration."`
	Identity holdcli.IdentityCommands `cmd:"" help:"Look after the hold's DID and keys."`
	Repo     holdcli.RepoCommands     `cmd:"" help:"Carry the hold's records away, check them, bring them back."`
	Crew     holdcli.CrewCommands     `cmd:"" help:"Say who may use the hold: add, list and remove members."`
	Backup   holdcli.BackupCommands   `cmd:"" help:"Back the hold up, and look after its backups."`
	Restore  holdcli.RestoreCommand   `cmd:"" help:"Bring a hold back from a backup, into an empty data folder."`
	cli.Common
}

func main() { program(0) }

func program(scryptWork int) {
	cli.Main(cli.Program{
		Name: "atcr-hold", Summary: "Stores layers of container images.", Grammar: &commands{}, Defaults: config.DefaultHold(),
		Bind: []any{&holdcli.Scrypt{Work: scryptWork}}, Keys: holdcli.Keys(),
	})
}

// folders are those that the hold writes.
func folders(c *config.Hold) []cli.Folder {
	out := []cli.Folder{{Key: "database.path", Path: c.Database.Path}}
	if c.Storage.Path != "" {
		out = append(out, cli.Folder{Key: "storage.path", Path: c.Storage.Path})
	}
	return out
}

type serveCommand struct {
	holdcli.HoldFile
	AcceptKey bool `help:"Go on with the signing key that is there, although a newer one has signed (keys/history). For one start."`
}

func (c *serveCommand) Run(ctx context.Context, std *cli.IO) error {
	settled, warnings, err := config.LoadHold(c.Config, std.Environ)
	if err != nil {
		return err
	}
	return holdcli.WithDatabase(ctx, settled, func(db *sqldb.DB) error {
		return cli.Serve(ctx, std, settled.LogLevel, warnings, folders(settled), func(log *slog.Logger) (cli.Service, error) {
			cfg := holdcli.Settings(settled, log)
			cfg.DB, cfg.Identity.AcceptKey = db, c.AcceptKey
			var err error
			if cfg.Backup, err = holdcli.Schedule(settled, log); err != nil {
				return nil, err
			}
			server, err := hold.New(ctx, cfg)
			if err != nil {
				return nil, err
			}
			return server, nil
		})
	})
}
