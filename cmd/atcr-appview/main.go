// Command atcr-appview runs an AppView: a container registry whose images belong to AT Protocol accounts and whose layers lie in
// holds.
//
//	atcr-appview config init appview.yaml    # every setting, explained
//	atcr-appview serve --config appview.yaml
//
// Settings can also come from the environment, as ATCR_SERVER_DEFAULT_HOLD_DID, the only one that must be set. SIGINT and
// SIGTERM let running requests end, then stop; a second one stops at once.
package main

import (
	"context"
	"log/slog"

	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/cli/appviewcli"
	"github.com/atcr-dev/atcr/internal/cli/database"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/registry/appview"
	"github.com/atcr-dev/atcr/registry/pds"
	"github.com/atcr-dev/atcr/sqldb"
)

type commands struct {
	Serve  serveCommand `cmd:"" help:"Run the AppView."`
	Config struct {
		Init  cli.ConfigInit `cmd:"" help:"Write a configuration with every setting, explained."`
		Check checkCommand   `cmd:"" help:"Say what is wrong with a configuration, and what would not work with it."`
	} `cmd:"" help:"Make or check a configuration."`
	Keys appviewcli.KeysCommands `cmd:"" help:"Rotate keys."`
	cli.Common
}

func main() {
	cli.Main(cli.Program{Name: "atcr-appview", Summary: "A container registry on the AT Protocol.", Grammar: &commands{},
		Defaults: config.DefaultAppView(), Keys: map[string]string{"identity.Config.AcceptKey": "serve --accept-key"}})
}

type serveCommand struct {
	cli.ConfigFile
	Verify    string `help:"When owners' records must be proved: always, sampled or never; pds.verify otherwise." enum:",always,sampled,never" default:"" placeholder:"WHEN"`
	AcceptKey bool   `help:"Go on with the signing key that is there, although a newer one has signed (keys/history). For one start."`
}

func (c *serveCommand) Run(ctx context.Context, std *cli.IO) error {
	settled, warnings, err := config.LoadAppView(c.Config, std.Environ)
	if err != nil {
		return err
	}
	if c.Verify != "" {
		settled.PDS.Verify = c.Verify
	}
	folders := []cli.Folder{{Key: "the folder of ui.database_path", Path: settled.DataDir()}}
	return database.With(ctx, "ui.database_url", settled.UI.DatabaseURL, func(db *sqldb.DB) error {
		return cli.Serve(ctx, std, settled.LogLevel, warnings, folders, func(log *slog.Logger) (cli.Service, error) {
			cfg := settings(settled, log)
			cfg.DB, cfg.AcceptKey = db, c.AcceptKey
			server, err := appview.New(ctx, cfg)
			if err != nil {
				return nil, err
			}
			return server, nil
		})
	})
}

func settings(c *config.AppView, log *slog.Logger) appview.Config {
	return appview.Config{
		Dir:                  c.DataDir(),
		DatabasePath:         c.UI.DatabasePath,
		KeyPath:              c.Auth.KeyPath,
		CertPath:             c.Auth.CertPath,
		AllowAccountPassword: c.Auth.AllowAccountPassword,
		WebAppPassword:       c.Auth.WebAppPassword,
		OAuthKeyPath:         c.OAuthKey(),
		Name:                 c.Server.ClientName,
		Company:              c.Legal.CompanyName,
		Jurisdiction:         c.Legal.Jurisdiction,
		Addr:                 c.Server.Addr,
		TrustedProxies:       c.Server.Proxies(),
		BaseURL:              c.Server.BaseURL,
		DefaultHold:          c.Server.DefaultHoldDID,
		TestMode:             c.Server.TestMode,
		PLCURL:               c.Server.PLCDirectoryURL,
		HandleResolverURL:    c.Server.HandleResolverURL,
		Redirect:             pds.Redirect(c.Registry.Redirect),
		SparseIndexes:        c.Registry.SparseIndexes,
		ServeStale:           c.PDS.ServeStale,
		OwnerRecords:         int64(c.PDS.OwnerRecords),
		OwnerBytes:           int64(c.PDS.OwnerBytes),
		CopyBytes:            int64(c.PDS.CopyBytes),
		Verify:               pds.Verify(c.PDS.Verify),
		AllowNetworks:        c.Network.Prefixes(),
		Log:                  log,
	}
}
