package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atcr-dev/atcr/internal/config"
)

// grammar is a program with every kind of verb, flag and argument.
type grammar struct {
	Serve struct {
		ConfigFile
		Mode string `enum:"fast,safe" default:"safe" help:"How."`
		done
	} `cmd:"" help:"Run it."`
	Thing struct {
		ConfigFile
		Show struct {
			JSONFlag
			Name string `arg:"" optional:"" help:"Whose."`
			done
		} `cmd:"" default:"withargs" help:"Show one. It has a . at the end, a \\ and …"`
		Put struct {
			File   string `arg:"" help:"From."`
			Layers bool   `negatable:"" default:"true" short:"l" help:"With layers."`
			fails
		} `cmd:"" help:"Put one."`
		Wrong struct{ wrong }   `cmd:"" help:"'quoted at the start."`
		Stop  struct{ stopped } `cmd:"" help:"Is stopped."`
		Gone  struct{ done }    `cmd:"" hidden:"" help:"Not shown."`
	} `cmd:"" help:"About things."`
	Common
}

type (
	done    struct{}
	fails   struct{}
	wrong   struct{}
	stopped struct{}
)

func (done) Run(std *IO) error                { _, err := fmt.Fprintln(std.Out, "done"); return err }
func (fails) Run() error                      { return errors.New("the disk is full") }
func (wrong) Run() error                      { return Usagef("write it %s", "so") }
func (stopped) Run(ctx context.Context) error { return fmt.Errorf("read: %w", ctx.Err()) }

func program() Program {
	return Program{Name: "test-program", Summary: "Does things.", Grammar: &grammar{}, Defaults: config.DefaultHold()}
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"test-program": func() { Main(program()) }})
}

func call(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Run(ctx, program(), args, &IO{Out: &out, Err: &errs})
	return code, out.String(), errs.String()
}

func TestExitCodes(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"serve", 0, "done\n", ""},
		{"thing put x", 1, "", "test-program: the disk is full\n"},
		{"thing stop", 130, "", "test-program: interrupted: read\n"},
		{"thing wrong", 2, "", "test-program: write it so\nSee: test-program thing wrong --help\n"},
		{"serve --mod fast", 2, "", "test-program: unknown flag --mod, did you mean \"--mode\"?\nSee: test-program serve --help\n"},
		{"serve --mode slow", 2, "", "test-program: --mode must be one of \"fast\",\"safe\" but got \"slow\"\nSee: test-program serve --help\n"},
		{"thing put", 2, "", "test-program: expected \"<file>\"\nSee: test-program thing put --help\n"},
		{"thin", 2, "", "test-program: unexpected argument thin, did you mean \"thing\"?\nSee: test-program --help\n"},
	} {
		ctx := t.Context()
		if c.code == 130 {
			ctx = canceled
		}
		code, stdout, stderr := call(ctx, strings.Fields(c.args)...)
		if code != c.code || stdout != c.stdout || stderr != c.stderr {
			t.Errorf("%s: %d %q %q", c.args, code, stdout, stderr)
		}
	}
	for _, args := range []string{"--help", "thing --help", "--version", "version", "version --json"} {
		if code, stdout, stderr := call(t.Context(), strings.Fields(args)...); code != 0 || !strings.Contains(stdout, "test-program") ||
			stderr != "" {
			t.Errorf("%s: %d %q %q", args, code, stdout, stderr)
		}
	}
}

func TestCandidates(t *testing.T) {
	for _, c := range []struct{ words, want string }{
		{"", "serve thing version completion man"},
		{"th", "thing"},
		{"thing ", "show put wrong stop"}, // the hidden one is not offered
		{"thing p", "put"},
		{"thing put ", ":files"},
		{"thing put --", "--layers --no-layers --config --help --version"},
		{"thing --j", "--json"}, // of the verb that is the default
		{"thing show --js", "--json"},
		{"thing put -l --n", "--no-layers"},
		{"serve --mode ", "fast safe"},
		{"serve --mode s", "safe"},
		{"serve --mode=s", "--mode=safe"}, // as zsh and fish have it
		{"serve --mode = s", "safe"},      // as bash has it
		{"serve --mode =", "fast safe"},
		{"serve --mode = fast --con", "--config"},
		{"serve --config ", ":files"},
		{"serve --config thing ", ""}, // the value of a flag is no verb
		{"thing --config x put ", ":files"},
		{"thing put -- --", ":files"},
		{"serve --none=", ""},
		{"nothing --", "--help --version"},
		{"completion ", "bash zsh fish"},
	} {
		code, stdout, stderr := call(t.Context(), append([]string{completeWord}, strings.Split(c.words, " ")...)...)
		var got []string
		for line := range strings.Lines(stdout) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			got = append(got, word)
		}
		if strings.Join(got, " ") != c.want || code != 0 || stderr != "" {
			t.Errorf("%q: %d %q %s", c.words, code, got, stderr)
		}
	}
}

// TestShells has the real shells complete by the scripts.
func TestShells(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hold file.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	scripts := map[string]string{
		"bash": `source <(test-program completion bash); complete -p test-program
			try() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMPREPLY=(); _test_program test-program; (IFS=,; echo "${COMPREPLY[*]}"); }
			try test-program th; try test-program thing put --no; try test-program serve --mode = f; try test-program serve --config ""`,
		"fish": `test-program completion fish | source
			for line in "test-program th" "test-program thing put --no" "test-program serve --mode=f" "test-program serve --config "
				complete -C $line | string replace -r '\t.*' ''
			end; true`,
		"zsh": `autoload -Uz compinit; compinit -C -D; source <(test-program completion zsh)
			print -r -- $_comps[test-program]
			_describe() { local -a all; all=("${(@P)2}"); print -r -- "${all[@]%%:*}" }; _files() { print -r -- *(N) }
			try() { words=("$@"); CURRENT=$#; _test_program }
			try test-program th; try test-program thing put --no; try test-program serve --mode=f; try test-program serve --config ""`,
	}
	for shell, script := range scripts {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skip(shell, "is not installed")
			}
			flag := map[string]string{"bash": "--norc", "zsh": "-f", "fish": "--no-config"}[shell]
			cmd := exec.CommandContext(t.Context(), path, flag, "-c", script)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
			out, err := cmd.CombinedOutput()
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			want := map[string][]string{
				"bash": {"complete -F _test_program test-program", "thing", "--no-layers", "fast", "hold file.yaml"},
				"fish": {"thing", "--no-layers", "--mode=fast", "hold file.yaml"},
				"zsh":  {"_test_program", "thing", "--no-layers", "--mode=fast", "hold file.yaml"},
			}[shell]
			if err != nil || !slices.Equal(lines, want) {
				t.Errorf("%v\n%s\nwant\n%s", err, out, strings.Join(want, "\n"))
			}
		})
	}
}

// TestMan has groff judge the page.
func TestMan(t *testing.T) {
	_, page, _ := call(t.Context(), "man")
	for _, want := range []string{".TH TEST\\-PROGRAM 1", ".SS test\\-program thing put <file>", ".B \\-l, \\-\\-[no\\-]layers",
		"\\&'quoted at the start.", "HOLD_SERVER_ADDR"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	if strings.Contains(page, "Not shown") {
		t.Error("a hidden verb is in it")
	}
	path, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not installed")
	}
	cmd := exec.CommandContext(t.Context(), path, "-man", "-Tutf8", "-P-cbou", "-ww")
	cmd.Stdin = strings.NewReader(page)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || errs.Len() > 0 || !strings.Contains(string(out), `It has a . at the end, a \ and …`) ||
		!strings.Contains(string(out), "'quoted at the start.") {
		t.Errorf("%v %s\n%s", err, errs.String(), out)
	}
}
