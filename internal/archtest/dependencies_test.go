package archtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dependencyLine is the first line of an item in docs/dependencies.md.
var dependencyLine = regexp.MustCompile("(?m)^- `([^`]+)`: (.+)$")

// goMod is what "go mod edit -json" says.
type goMod struct {
	Require []struct {
		Path     string
		Indirect bool
	}
	Tool []struct{ Path string }
}

// readMod reads a go.mod file, named from the module's root.
func readMod(t *testing.T, file string) goMod {
	t.Helper()
	cmd := exec.Command("go", "mod", "edit", "-json", file)
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod goMod
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	return mod
}

// Each module that our code or tests import, or run as a tool, has a line with
// its reason in docs/dependencies.md, and each line is about such a module.
func TestDependenciesAreExplained(t *testing.T) {
	mod, lint := readMod(t, "go.mod"), readMod(t, "internal/lint/go.mod")
	if len(mod.Tool) > 0 {
		t.Errorf("go.mod has the tool %s: put it into internal/lint/go.mod, so that who imports the library does not require it",
			mod.Tool[0].Path)
	}
	used := map[string]string{} // module -> a package of ours that uses it
	use := func(imported, by string) {
		best := ""
		for _, r := range slices.Concat(mod.Require, lint.Require) {
			if within(imported, r.Path) && len(r.Path) > len(best) {
				best = r.Path
			}
		}
		if best != "" {
			used[best] = by
		}
	}
	for p := range list(t, "./...") {
		for _, imports := range [][]string{p.Imports, p.TestImports, p.XTestImports} {
			for _, imported := range imports {
				use(imported, p.ImportPath)
			}
		}
	}
	for _, tool := range lint.Tool {
		use(tool.Path, "tool")
	}
	text, err := os.ReadFile(filepath.Join(root(t), "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, m := range dependencyLine.FindAllStringSubmatch(string(text), -1) {
		explained[m[1]] = len(strings.Fields(m[2])) >= 3
	}
	for module, by := range used {
		if !explained[module] {
			t.Errorf("docs/dependencies.md has no line with a reason for %s (used by %s)", module, by)
		}
	}
	for module := range explained {
		if used[module] == "" {
			t.Errorf("docs/dependencies.md explains %s, which nothing imports", module)
		}
	}
	for _, r := range mod.Require {
		if r.Indirect && used[r.Path] != "" {
			t.Errorf("go.mod calls %s indirect, but %s imports it", r.Path, used[r.Path])
		}
	}
}
