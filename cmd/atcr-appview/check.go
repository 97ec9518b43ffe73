package main

import (
	"context"
	"path/filepath"

	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/cli/database"
	"github.com/atcr-dev/atcr/internal/cli/online"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/sqldb"
)

type checkCommand struct {
	cli.ConfigFile
	cli.JSONFlag
	Online bool `help:"Look at what it names, too: folders, port, directory, hold, PDS, database."`
}

// Run prints what is wrong with a configuration, and with what it names.
func (c *checkCommand) Run(ctx context.Context, std *cli.IO) error {
	settled, warnings, err := config.LoadAppView(c.Config, std.Environ)
	rep := &online.Report{Warnings: warnings}
	rep.Failed(err)
	if err != nil || !c.Online {
		return rep.Print(std, c.JSONFlag, nil, "the configuration is good")
	}
	look := online.New(online.Options{
		Program: "atcr-appview", PLCURL: settled.Server.PLCDirectoryURL, HandleResolverURL: settled.Server.HandleResolverURL,
		TestMode: settled.Server.TestMode, Allow: settled.Network.Prefixes(),
	})
	defer look.Close()
	look.DataFolder("ui.database_path", settled.DataDir())
	look.Folder("auth.key_path", filepath.Dir(settled.Auth.KeyPath))
	look.Folder("auth.cert_path", filepath.Dir(settled.Auth.CertPath))
	look.Folder("server.oauth_key_path", filepath.Dir(settled.OAuthKey()))
	look.Listen(ctx, "server.addr", settled.Server.Addr)
	look.Server(ctx, "server.plc_directory_url", settled.Server.PLCDirectoryURL)
	if settled.Server.HandleResolverURL != "" {
		look.Server(ctx, "server.handle_resolver_url", settled.Server.HandleResolverURL)
	}
	look.Hold(ctx, "server.default_hold_did", settled.Server.DefaultHoldDID)
	if settled.UI.DatabaseURL != "" {
		look.Try("ui.database_url", "the database answers",
			database.With(ctx, "ui.database_url", settled.UI.DatabaseURL, func(*sqldb.DB) error { return nil }))
	}
	return rep.Print(std, c.JSONFlag, look, "the configuration is good")
}
