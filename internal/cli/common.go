package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/alecthomas/kong"

	"github.com/atcr-dev/atcr/internal/config"
)

// Common is embedded by every program's grammar.
type Common struct {
	ShowVersion kong.VersionFlag `name:"version" help:"Print what this was built from, and exit."`

	Version    versionCommand    `cmd:"" help:"Print what this was built from."`
	Completion completionCommand `cmd:"" help:"Print what makes a shell complete this program's commands."`
	Man        manCommand        `cmd:"" help:"Print the manual page, in roff: try ${name} man | man -l -"`
}

type versionCommand struct {
	JSONFlag
}

func (c *versionCommand) Run(std *IO, p *Program) error {
	b := config.ReadBuild()
	b.Program = p.Name
	return c.Print(std, b, func() error {
		_, err := fmt.Fprintln(std.Out, p.Name, b)
		return err
	})
}

// ConfigInit is the verb `config init`.
type ConfigInit struct {
	Format config.Format `enum:",yaml,toml" default:"" help:"yaml or toml; else by the file's name, and YAML without one." placeholder:"FORMAT"`
	File   string        `arg:"" optional:"" help:"File to write; without, standard output."`
}

// Run writes the configuration.
func (c *ConfigInit) Run(std *IO, p *Program) error {
	return config.Init(c.File, c.Format, std.Out, p.Defaults)
}

// Service is what `serve` runs.
type Service interface {
	Run(ctx context.Context) error
	Close() error
}

// Serve opens a service with a log on standard error, and runs it until ctx ends. Errors of opening name those folders that are full or
// somebody else's.
func Serve(ctx context.Context, std *IO, level string, warnings []string, folders []Folder,
	open func(log *slog.Logger) (Service, error)) (err error) {
	log := Logger(std, config.Level(level))
	slog.SetDefault(log)
	for _, warning := range warnings {
		log.Warn(warning)
	}
	service, err := open(log)
	if err != nil {
		return explain(err, folders)
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	return service.Run(ctx)
}

// Logger returns a log on standard error.
func Logger(std *IO, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(std.Err, &slog.HandlerOptions{Level: level}))
}

// ConfigFile is embedded by verbs that read a configuration.
type ConfigFile struct {
	Config string `help:"Configuration file: YAML, or TOML by its name." placeholder:"FILE"`
}
