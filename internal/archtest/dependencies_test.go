package archtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// dependencyLine is one row of the table in docs/dependencies.md.
var dependencyLine = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.+) \\|$")

// goMod is what "go mod edit -json" says.
type goMod struct {
	Require []struct {
		Path     string
		Indirect bool
	}
	Tool []struct{ Path string }
}

func readMod(t *testing.T) goMod {
	t.Helper()
	cmd := exec.Command("go", "mod", "edit", "-json")
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
	mod := readMod(t)
	used := map[string]string{} // module -> a package of ours that uses it
	use := func(imported, by string) {
		best := ""
		for _, r := range mod.Require {
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
	for _, tool := range mod.Tool {
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
		// "go mod tidy" calls a module indirect that only a tool line names.
		if r.Indirect && used[r.Path] != "" && used[r.Path] != "tool" {
			t.Errorf("go.mod calls %s indirect, but %s imports it", r.Path, used[r.Path])
		}
	}
}
