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
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/registry/appview"
	"github.com/atcr-dev/atcr/registry/pds"
)

type commands struct {
	Serve struct {
		Config string `help:"Configuration file: YAML, or TOML by its name." placeholder:"FILE"`
		Verify string `help:"When owners' records must be proved: always, sampled or never; pds.verify otherwise." enum:",always,sampled,never" default:"" placeholder:"WHEN"`
	} `cmd:"" help:"Run the AppView."`
	Config struct {
		Init struct {
			File string `arg:"" optional:"" help:"File to write; standard output without."`
		} `cmd:"" help:"Write a configuration with every setting, explained."`
	} `cmd:"" help:"Make a configuration."`
	Version struct{} `cmd:"" help:"Say what this was built from."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	var c commands
	command := kong.Parse(&c, kong.Name("atcr-appview"), kong.Description("A container registry on the AT Protocol.")).Command()
	if err := run(ctx, command, &c, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "atcr-appview:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command string, c *commands, stdout, stderr io.Writer) error {
	switch command {
	case "version":
		_, err := fmt.Fprintln(stdout, "atcr-appview", config.Version())
		return err
	case "serve":
		return serve(ctx, c.Serve.Config, c.Serve.Verify, stderr)
	default:
		return config.Init(c.Config.Init.File, stdout, config.DefaultAppView())
	}
}

func serve(ctx context.Context, file, verify string, stderr io.Writer) (err error) {
	c, warnings, err := config.LoadAppView(file, os.Environ())
	if err != nil {
		return err
	}
	if verify != "" {
		c.PDS.Verify = verify
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: config.Level(c.LogLevel)}))
	slog.SetDefault(log)
	for _, warning := range warnings {
		log.Warn(warning)
	}
	server, err := appview.New(ctx, settings(c, log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	log.Info("serving", "addr", c.Server.Addr, "url", c.Server.BaseURL)
	return server.Run(ctx)
}

func settings(c *config.AppView, log *slog.Logger) appview.Config {
	return appview.Config{
		Dir:                  c.DataDir(),
		DatabasePath:         c.UI.DatabasePath,
		KeyPath:              c.Auth.KeyPath,
		CertPath:             c.Auth.CertPath,
		AllowAccountPassword: c.Auth.AllowAccountPassword,
		Addr:                 c.Server.Addr,
		BaseURL:              c.Server.BaseURL,
		DefaultHold:          c.Server.DefaultHoldDID,
		TestMode:             c.Server.TestMode,
		PLCURL:               c.Server.PLCDirectoryURL,
		HandleResolverURL:    c.Server.HandleResolverURL,
		Redirect:             pds.Redirect(c.Registry.Redirect),
		ServeStale:           c.PDS.ServeStale,
		Verify:               pds.Verify(c.PDS.Verify),
		AllowNetworks:        c.Network.Prefixes(),
		Log:                  log,
	}
}
