package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/cli/holdcli"
	"github.com/atcr-dev/atcr/internal/cli/online"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/sqldb"
)

type checkCommand struct {
	holdcli.HoldFile
	cli.JSONFlag
	Online bool `help:"Look at what it names, too: folders, port, directory, PDSes, database, backups."`
}

// Run prints what LoadHold warns of, and what is wrong with the name that a hold would get; errors are what keeps it from starting.
func (c *checkCommand) Run(ctx context.Context, std *cli.IO) error {
	settled, warnings, err := config.LoadHold(c.Config, std.Environ)
	rep := &online.Report{Warnings: warnings}
	rep.Failed(err)
	if err != nil {
		if _, worse := holdcli.BackupOptions(settled, slog.New(slog.DiscardHandler)); worse != nil &&
			!strings.Contains(err.Error(), "backup.recipient") {
			rep.Failed(worse)
		}
		return rep.Print(std, c.JSONFlag, nil, "")
	}
	h := holdcli.Settings(settled, slog.New(slog.DiscardHandler))
	_, err = holdcli.BackupOptions(settled, h.Log)
	rep.Failed(err)
	name := "a did:plc that is made at the first start"
	dir, err := h.DataDir()
	if err == nil {
		did, unusable, worse := identity.Check(dir.Identity)
		if err = worse; did != "" {
			name, rep.DID = did.String(), did.String()
		}
		rep.Warnings = append(rep.Warnings, unusable...)
	}
	rep.Failed(err)
	var look *online.Checker
	if c.Online {
		look = online.New(online.Options{
			Program: "atcr-hold", PLCURL: settled.Identity.PLCDirectoryURL, HandleResolverURL: settled.Server.HandleResolverURL,
			TestMode: settled.Server.TestMode, Allow: settled.Network.Prefixes(),
		})
		defer look.Close()
		lookAround(ctx, look, settled)
	}
	return rep.Print(std, c.JSONFlag, look, "the configuration is good; the hold is "+name)
}

func lookAround(ctx context.Context, look *online.Checker, c *config.Hold) {
	look.DataFolder("database.path", c.Database.Path)
	look.Folder("storage.path", c.StoragePath())
	look.Listen(ctx, "server.addr", c.Server.Addr)
	look.Server(ctx, "identity.plc_directory_url", c.Identity.PLCDirectoryURL)
	if c.Server.HandleResolverURL != "" {
		look.Server(ctx, "server.handle_resolver_url", c.Server.HandleResolverURL)
	}
	look.Account(ctx, "registration.owner_did", c.Registration.OwnerDID)
	for _, m := range c.Registration.Crew {
		look.Account(ctx, "registration.crew", m.Member)
	}
	if c.Database.URL != "" {
		look.Try("database.url", "the database answers", holdcli.WithDatabase(ctx, c, func(*sqldb.DB) error { return nil }))
	}
	switch to := c.Backup.To; {
	case to == "":
	case strings.HasPrefix(to, "s3:"):
		look.Try("backup.to", config.Shown(to)+" answers", tryTarget(ctx, c))
	default:
		look.Folder("backup.to", to)
	}
}

// tryTarget lists the first thing of a bucket.
func tryTarget(ctx context.Context, c *config.Hold) error {
	t, err := holdcli.OpenTarget(c.Backup.To, c.Backup)
	if err != nil {
		return err
	}
	for _, err := range t.List(ctx, "") {
		return err
	}
	return nil
}
