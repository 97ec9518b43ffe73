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
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/config"
)

type commands struct {
	Serve struct {
		Config string `help:"Configuration file: YAML, or TOML by its name." placeholder:"FILE"`
	} `cmd:"" help:"Run the hold."`
	Config struct {
		Init struct {
			File string `arg:"" optional:"" help:"File to write; standard output without."`
		} `cmd:"" help:"Write a configuration with every setting, explained."`
		Check struct {
			Config string `help:"Configuration file." placeholder:"FILE"`
		} `cmd:"" help:"Say what is wrong with a configuration, and what would not work with it."`
	} `cmd:"" help:"Make or check a configuration."`
	Identity identityCommands `cmd:"" help:"Look after the hold's DID and keys."`
	Repo     repoCommands     `cmd:"" help:"Carry the hold's records away, check them, bring them back."`
	Backup   backupCommands   `cmd:"" help:"Back the hold up, and look after its backups."`
	Restore  restoreCommand   `cmd:"" help:"Bring a hold back from a backup, into an empty data folder."`
	Version  struct{}         `cmd:"" help:"Say what this was built from."`
}

func main() { program(0) }

// program runs the command line. scryptWork is the work factor of files that are encrypted by passphrase, a power of two; 0 is age's own,
// a second for each guess. Tests lower it.
func program(scryptWork int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	var c commands
	c.Identity.scryptWork, c.Backup.scryptWork = scryptWork, scryptWork
	command := kong.Parse(&c, kong.Name("atcr-hold"), kong.Description("Stores layers of container images.")).Command()
	if err := run(ctx, command, &c, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "atcr-hold:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command string, c *commands, stdout, stderr io.Writer) error {
	switch command {
	case "version":
		_, err := fmt.Fprintln(stdout, "atcr-hold", config.Version())
		return err
	case "serve":
		return serve(ctx, c.Serve.Config, stderr)
	case "config check":
		return checkConfig(c.Config.Check.Config, stdout)
	}
	if verb, ok := strings.CutPrefix(command, "identity "); ok {
		return runIdentity(ctx, verb, &c.Identity, os.Stdin, stdout, stderr)
	}
	if verb, ok := strings.CutPrefix(command, "repo "); ok {
		return runRepo(ctx, verb, &c.Repo, os.Stdin, stdout, stderr)
	}
	if verb, ok := strings.CutPrefix(command, "backup "); ok {
		return runBackup(ctx, verb, &c.Backup, stdout, stderr)
	}
	if strings.HasPrefix(command, "restore ") {
		return runRestore(ctx, &c.Restore, stdout, stderr)
	}
	return config.Init(c.Config.Init.File, stdout, config.DefaultHold())
}

// checkConfig prints what LoadHold warns of, and what is wrong with the name that a hold would get; errors are what keeps it from starting.
func checkConfig(file string, stdout io.Writer) error {
	c, warnings, err := config.LoadHold(file, os.Environ())
	if err != nil {
		return err
	}
	h := settings(c, slog.New(slog.DiscardHandler))
	if h.Backup, err = schedule(c, h.Log); err != nil {
		return err
	}
	cfg, err := h.IdentityConfig()
	if err != nil {
		return err
	}
	did, err := identity.Preview(cfg)
	if err != nil {
		return err
	}
	warnings = append(warnings, identity.NameWarnings(did, cfg.PublicURL, cfg.TestMode)...)
	for _, w := range warnings {
		fmt.Fprintln(stdout, "warning:", w)
	}
	name := did.String()
	if did == "" {
		name = "a did:plc that is made at the first start"
	}
	_, err = fmt.Fprintf(stdout, "the configuration is good; the hold is %s\n", name)
	return err
}

func serve(ctx context.Context, file string, stderr io.Writer) (err error) {
	c, warnings, err := config.LoadHold(file, os.Environ())
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: config.Level(c.LogLevel)}))
	slog.SetDefault(log)
	for _, warning := range warnings {
		log.Warn(warning)
	}
	cfg := settings(c, log)
	if cfg.Backup, err = schedule(c, log); err != nil {
		return err
	}
	server, err := hold.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	log.Info("serving", "addr", c.Server.Addr, "url", c.Server.PublicURL)
	return server.Run(ctx)
}

func settings(c *config.Hold, log *slog.Logger) hold.Config {
	var crew []hold.CrewMember
	for _, m := range c.Registration.Crew {
		crew = append(crew, hold.CrewMember(m))
	}
	var tiers []hold.Tier
	for _, t := range c.Quota.Tiers {
		tiers = append(tiers, hold.Tier{Name: t.Name, Description: t.Description})
	}
	return hold.Config{
		Dir:                c.Database.Path,
		DatabaseURL:        c.Database.URL,
		StoragePath:        c.StoragePath(),
		Addr:               c.Server.Addr,
		PublicURL:          c.Server.PublicURL,
		Public:             c.Server.Public,
		TestMode:           c.Server.TestMode,
		AllowNetworks:      c.Network.Prefixes(),
		HandleResolverURL:  c.Server.HandleResolverURL,
		RefuseLegacyTokens: !c.Server.AcceptLegacyTokens,
		NoRedirect:         !c.Server.Redirect,
		Region:             c.Server.Region,
		Successor:          c.Server.Successor,
		OwnerDID:           c.Registration.OwnerDID,
		AllowAllCrew:       c.Registration.AllowAllCrew,
		EnableBlueskyPosts: c.Registration.EnableBlueskyPosts,
		Profile:            hold.Profile{DisplayName: c.Registration.ProfileName, Description: c.Registration.ProfileDescription},
		Crew:               crew,
		AppViewDID:         c.Server.AppViewDID,
		Tiers:              tiers,
		Relays:             c.Relays.Endpoints,
		PLCURL:             c.Identity.PLCDirectoryURL,
		Identity: identity.Config{
			Method: c.Identity.DIDMethod, DID: c.Identity.DID,
			RotationKeyPath: c.Identity.RotationKeyPath, RotationKey: c.Identity.RotationKey, RecoveryDIDKey: c.Identity.RecoveryDIDKey,
		},
		Log: log,
	}
}
