package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/atcr-dev/atcr"

// A pkg is what go list says of one package; only what ships counts, its test
// files are free to import anything.
type pkg struct {
	ImportPath   string
	Standard     bool
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// graph is every package of the module and all they need, by import path.
type graph map[string]*pkg

func load(t *testing.T) graph {
	t.Helper()
	g := graph{}
	for p := range list(t, "-deps", "./...") {
		g[p.ImportPath] = p
	}
	return g
}

// list runs go list at the module's root with cgo off, as the programs ship.
func list(t *testing.T, args ...string) func(func(*pkg) bool) {
	t.Helper()
	args = append([]string{"list", "-json=ImportPath,Standard,Imports,TestImports,XTestImports"}, args...)
	cmd := exec.Command("go", args...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	dec := json.NewDecoder(bytes.NewReader(out))
	return func(yield func(*pkg) bool) {
		for {
			p := new(pkg)
			if err := dec.Decode(p); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
			if !yield(p) {
				return
			}
		}
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// folderOf returns the folder of one of our packages; ok is false for everybody else's.
func folderOf(importPath string) (folder string, ok bool) {
	if importPath == modulePath {
		return "", true
	}
	return strings.CutPrefix(importPath, modulePath+"/")
}

// fits reports whether folder is what pattern means.
func fits(pattern, folder string) bool {
	base, below := strings.CutSuffix(pattern, "/...")
	return folder == base || below && strings.HasPrefix(folder, base+"/")
}

// within reports whether importPath is prefix or below it.
func within(importPath, prefix string) bool {
	return importPath == prefix || strings.HasPrefix(importPath, prefix+"/")
}

func ruleOf(folder string) *rule {
	for i := range rules {
		if fits(rules[i].folder, folder) {
			return &rules[i]
		}
	}
	return nil
}

// closure is everything that from imports, with the package that first brought
// each, so that a chain can be told.
func (g graph) closure(from string) map[string]string {
	broughtBy := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		p := g[queue[0]]
		if p == nil {
			continue
		}
		for _, next := range p.Imports {
			if _, seen := broughtBy[next]; !seen {
				broughtBy[next] = queue[0]
				queue = append(queue, next)
			}
		}
	}
	return broughtBy
}

// chain tells how to came in.
func chain(broughtBy map[string]string, to string) string {
	path := []string{to}
	for by := broughtBy[to]; by != ""; by = broughtBy[by] {
		path = append(path, by)
	}
	slices.Reverse(path)
	return strings.Join(path, "\n\t-> ")
}

// forbiddenImports lists what breaks the allow-list.
func (g graph) forbiddenImports() (broken []string) {
	for path, p := range g {
		folder, ours := folderOf(path)
		if !ours {
			continue
		}
		r := ruleOf(folder)
		if r == nil {
			broken = append(broken, path+" has no line in the table of rules_test.go")
			continue
		}
		for _, imported := range p.Imports {
			to, ours := folderOf(imported)
			if ours && to != folder && !slices.ContainsFunc(r.may, func(pattern string) bool { return fits(pattern, to) }) {
				broken = append(broken, fmt.Sprintf("%s must not import %s; it may: %q", path, imported, r.may))
			}
			for _, not := range notDirectly {
				if fits(not.folder, folder) && within(imported, not.pkg) {
					broken = append(broken, fmt.Sprintf("%s must not import %s: %s", path, imported, not.why))
				}
			}
			for _, only := range onlyBy {
				if within(imported, only.pkg) && !fits(only.folder, folder) {
					broken = append(broken, fmt.Sprintf("%s must not import %s, only %s does: %s", path, imported, only.folder, only.why))
				}
			}
		}
	}
	return broken
}

// overBudget lists the packages that bring too many third-party packages; count is told
// of each package's.
func (g graph) overBudget(count func(path string, foreign, budget int)) (broken []string) {
	for path := range g {
		folder, ours := folderOf(path)
		r := ruleOf(folder)
		if !ours || r == nil {
			continue
		}
		broughtBy := g.closure(path)
		var foreign []string
		for dep := range broughtBy {
			if p := g[dep]; p != nil && !p.Standard {
				if _, ours := folderOf(dep); !ours {
					foreign = append(foreign, dep)
				}
			}
		}
		count(path, len(foreign), r.budget)
		if len(foreign) > r.budget {
			slices.Sort(foreign)
			broken = append(broken, fmt.Sprintf("%s brings %d third-party packages, its budget is %d:\n%s\none chain:\n\t%s", path, len(foreign),
				r.budget,
				strings.Join(foreign, "\n"), chain(broughtBy, farthest(broughtBy, foreign))))
		}
	}
	return broken
}

// farthest is the foreign package with the longest chain.
func farthest(broughtBy map[string]string, foreign []string) string {
	return slices.MaxFunc(foreign, func(a, b string) int {
		return strings.Count(chain(broughtBy, a), "->") - strings.Count(chain(broughtBy, b), "->")
	})
}

// unwanted lists the packages that bring what they must be free of, and how.
func (g graph) unwanted() (broken []string) {
	for path := range g {
		folder, ours := folderOf(path)
		if !ours {
			continue
		}
		broughtBy := g.closure(path)
		for _, not := range notIn {
			if !fits(not.folder, folder) {
				continue
			}
			for dep := range broughtBy {
				// A package below the forbidden one may be fine (hold/holdclient), so ours are exact.
				_, oursToo := folderOf(dep)
				if oursToo && dep == not.pkg || !oursToo && within(dep, not.pkg) {
					broken = append(broken, fmt.Sprintf("%s must not bring %s: %s\n\t%s", path, dep, not.why, chain(broughtBy, dep)))
					break
				}
			}
		}
	}
	return broken
}

func TestImports(t *testing.T) {
	g := load(t)
	broken := slices.Concat(g.forbiddenImports(), g.unwanted(), g.overBudget(func(path string, foreign, budget int) {
		t.Logf("%-60s %4d third-party packages of %4d", path, foreign, budget)
	}))
	slices.Sort(broken)
	for _, b := range broken {
		t.Error(b)
	}
}

// The rules can fail: a codebase made to break each is refused, with the chain.
func TestTheRulesBite(t *testing.T) {
	const m = modulePath
	g := graph{
		m + "/registry":             {ImportPath: m + "/registry", Imports: []string{m + "/internal/oci", "x.test/a", m + "/hold"}},
		m + "/internal/oci":         {Imports: []string{"modernc.org/sqlite"}},
		m + "/hold":                 {Imports: []string{"github.com/bluesky-social/indigo/atproto/syntax"}},
		m + "/nowhere":              {},
		m + "/hold/internal/ledger": {Imports: []string{"net/http"}},
		"modernc.org/sqlite":        {}, "x.test/a": {Imports: []string{"x.test/b"}}, "x.test/b": {Imports: []string{"x.test/c"}},
		"x.test/c": {Imports: []string{"x.test/d"}}, "x.test/d": {},
		"github.com/bluesky-social/indigo/atproto/syntax": {},
	}
	all := strings.Join(slices.Concat(g.forbiddenImports(), g.unwanted(), g.overBudget(func(string, int, int) {})), "\n")
	for _, want := range []string{
		m + "/registry must not import " + m + "/hold",
		m + "/nowhere has no line",
		m + "/hold/internal/ledger must not import net/http",
		m + "/internal/oci must not import modernc.org/sqlite",
		m + "/registry must not bring github.com/bluesky-social/indigo/atproto/syntax",
		"-> " + m + "/hold\n\t-> github.com/bluesky-social/indigo/atproto/syntax",
		m + "/registry brings 6 third-party packages, its budget is 4",
		"-> x.test/a\n\t-> x.test/b\n\t-> x.test/c\n\t-> x.test/d",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("not refused: %q; what was:\n%s", want, all)
		}
	}
	if fits("hold", "hold/holdclient") || !fits("hold/...", "hold/admin") || !fits("hold/...", "hold") || fits("hold/...", "holdings") {
		t.Error("fits does not tell packages apart")
	}
}
