package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/atcr-dev/atcr/internal/config"
)

type manCommand struct{}

func (*manCommand) Run(std *IO, p *Program, k *kong.Kong) error { return writeMan(std.Out, p, k.Model) }

// writeMan prints the manual page of a program, in roff with the man macros.
func writeMan(w io.Writer, p *Program, app *kong.Application) error {
	out := bufio.NewWriter(w)
	m := &man{out}
	fmt.Fprintf(out, ".TH %s 1 \"\" \"%s\"\n.nh\n.ad l\n", roff(strings.ToUpper(p.Name)), roff(p.Name+" "+config.ReadBuild().Version))
	m.section("NAME")
	m.text(p.Name + " - " + strings.TrimSuffix(p.Summary, "."))
	m.section("SYNOPSIS")
	fmt.Fprintf(out, ".B %s\n.I command\n.RI [ flags ]\n", roff(p.Name))
	if p.Detail != "" {
		m.section("DESCRIPTION")
		m.text(p.Detail)
	}
	m.section("COMMANDS")
	for _, leaf := range app.Leaves(true) {
		m.command(leaf)
	}
	m.section("FLAGS OF EVERY COMMAND")
	m.flags(app.Node)
	m.section("EXIT STATUS")
	for _, line := range [][2]string{
		{"0", "Done."}, {"1", "It failed; the reason is on standard error."}, {"2", "The command line is wrong."},
		{"130", "It was interrupted."},
	} {
		m.item(line[0], line[1])
	}
	m.environment(p)
	return out.Flush()
}

type man struct{ out *bufio.Writer }

func (m *man) environment(p *Program) {
	if p.Defaults == nil && len(p.Variables) == 0 {
		return
	}
	m.section("ENVIRONMENT")
	for _, v := range p.Variables {
		m.item(v[0], v[1])
	}
	if p.Defaults == nil {
		return
	}
	prefix := config.Prefix(p.Defaults)
	m.text("Every key of the configuration can be set by a variable, which wins over the file: " + prefix +
		"_ and the key's path in capitals, as in " +
		config.EnvName(prefix, "server.addr") + " for server.addr. `" + p.Name + " config init` prints all keys, explained.")
}

func (m *man) section(name string) { fmt.Fprintf(m.out, ".SH %s\n", name) }

func (m *man) text(s string) { fmt.Fprintln(m.out, roff(s)) }

func (m *man) item(name, text string) { fmt.Fprintf(m.out, ".TP\n.B %s\n%s\n", roff(name), roff(text)) }

func (m *man) command(leaf *kong.Node) {
	fmt.Fprintf(m.out, ".SS %s\n", roff(leaf.FullPath()+arguments(leaf)))
	m.text(leaf.Help)
	for _, arg := range leaf.Positional {
		m.item(arg.Name, arg.Help)
	}
	for n := leaf; n.Parent != nil; n = n.Parent {
		m.flags(n)
	}
}

func arguments(leaf *kong.Node) string {
	var out strings.Builder
	for _, arg := range leaf.Positional {
		out.WriteString(" " + arg.Summary())
	}
	return out.String()
}

func (m *man) flags(n *kong.Node) {
	for _, f := range n.Flags {
		if f.Hidden {
			continue
		}
		name := "--" + f.Name
		if f.Tag.Negatable != "" {
			name = "--[no-]" + f.Name
		}
		if f.Short != 0 {
			name = "-" + string(f.Short) + ", " + name
		}
		if !f.IsBool() {
			name += "=" + f.FormatPlaceHolder()
		}
		m.item(name, f.Help)
	}
}

// roff escapes text: backslashes, hyphens that must stay hyphens, a control character at a line's start, and all that is not ASCII.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, `"`, `\(dq`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	var out strings.Builder
	for _, r := range strings.Join(lines, "\n") {
		if r < 0x80 {
			out.WriteRune(r)
		} else {
			fmt.Fprintf(&out, `\[u%04X]`, r)
		}
	}
	return out.String()
}
