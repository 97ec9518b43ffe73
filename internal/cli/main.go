package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/atcr-dev/atcr/internal/config"
)

// Exit codes.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// Program describes a command.
type Program struct {
	Name    string
	Summary string // one sentence, for --help and the manual page
	Detail  string // paragraphs for the manual page
	Grammar any    // pointer to the struct that kong reads; it embeds Common
	// Defaults is the configuration before file and environment: a *config.Hold or *config.AppView, which `config init` writes; nil for
	// a program that has none.
	Defaults any
	Bind     []any // what Run methods may take besides; a pointer each
	// Variables are those of the environment that the manual page explains, name and text. Those of the configuration it explains itself.
	Variables [][2]string
	Groups    map[string]string // headings of verbs with a group tag, for --help
	Vars      map[string]string // what ${…} in the grammar's texts stands for, beside name and version
	// Keys are the configuration keys of fields that errors of packages name, as in "identity.Config.DID": "identity.did".
	Keys map[string]string
}

// named has an error's text speak of configuration keys.
func (p *Program) named(err error) string {
	text := err.Error()
	for field, key := range p.Keys {
		text = strings.ReplaceAll(text, field+":", key+":")
	}
	return text
}

// IO is what a verb reads and writes.
type IO struct {
	In      io.Reader
	Out     io.Writer // results
	Err     io.Writer // logs, warnings, progress
	Environ []string  // NAME=value, for configurations
}

// Main runs the command line of this process and exits. SIGINT and SIGTERM end the context that verbs are given; a second one ends the
// process at once.
func Main(p Program) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(Run(ctx, p, os.Args[1:], &IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ()}))
}

// exited is what kong is made to panic with where it would end the process, as after --help.
type exited int

// Run runs a command line and returns the code to exit with. What failed is printed on std.Err.
func Run(ctx context.Context, p Program, args []string, std *IO) (code int) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exited:
			code = int(r)
		default:
			panic(r)
		}
	}()
	k, err := parser(&p, std)
	if err != nil {
		fmt.Fprintf(std.Err, "%s: %v\n", p.Name, err)
		return exitFailure
	}
	if len(args) > 0 && args[0] == completeWord {
		if err := complete(std.Out, k.Model, args[1:]); err != nil {
			return exitFailure
		}
		return 0
	}
	parsed, err := k.Parse(args)
	if err != nil {
		return p.usage(std, err)
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(append([]any{std, &p}, p.Bind...)...)
	var wrong *UsageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrPrinted):
		return exitFailure
	case errors.As(err, &wrong):
		return p.usage(std, &kong.ParseError{Context: parsed}, err)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintf(std.Err, "%s: interrupted: %s\n", p.Name, strings.TrimSuffix(p.named(err), ": "+context.Canceled.Error()))
		return exitInterrupted
	}
	fmt.Fprintf(std.Err, "%s: %s\n", p.Name, p.named(err))
	return exitFailure
}

// parser reads the grammar.
func parser(p *Program, std *IO) (*kong.Kong, error) {
	vars := kong.Vars{"version": p.Name + " " + config.Version(), "name": p.Name}
	maps.Copy(vars, p.Vars)
	return kong.New(p.Grammar, kong.Name(p.Name), kong.Description(p.Summary), kong.Writers(std.Out, std.Err),
		kong.Exit(func(code int) { panic(exited(code)) }), vars, kong.Groups(p.Groups),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
}

// usage reports a wrong command line, and how the verb is written.
func (p *Program) usage(std *IO, parse error, said ...error) int {
	text := parse
	if len(said) > 0 {
		text = said[0]
	}
	command := p.Name
	var at *kong.ParseError
	if errors.As(parse, &at) && at.Context != nil {
		if n := at.Context.Selected(); n != nil {
			command = n.FullPath()
		} else if n := lastNode(at.Context); n != nil {
			command = n.FullPath()
		}
	}
	fmt.Fprintf(std.Err, "%s: %v\nSee: %s --help\n", p.Name, text, command)
	return exitUsage
}

// lastNode is the innermost verb that was named.
func lastNode(c *kong.Context) *kong.Node {
	for i := len(c.Path) - 1; i >= 0; i-- {
		if n := c.Path[i].Node(); n != nil {
			return n
		}
	}
	return nil
}

// ErrPrinted is what a verb returns that has printed what failed.
var ErrPrinted = errors.New("it failed")

// UsageError is a command line that kong lets pass and a verb does not.
type UsageError struct{ text string }

func (e *UsageError) Error() string { return e.text }

// Usagef makes a [UsageError].
func Usagef(format string, args ...any) error {
	return &UsageError{strings.TrimSpace(fmt.Sprintf(format, args...))}
}
