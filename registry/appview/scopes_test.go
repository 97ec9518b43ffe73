package appview_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/registry/appview"
)

// noToken are methods and collections of holds that package holdclient names, and for which no user gives a token.
var noToken = map[string]string{
	"com.atproto.repo.getRecord":        "public",
	"com.atproto.repo.listRecords":      "public",
	"com.atproto.server.describeServer": "public",
	"io.atcr.hold.listTiers":            "public",
	"io.atcr.hold.updateCrewTier":       "the AppView's own token",
	"io.atcr.hold.captain":              "a collection, which is read",
	"io.atcr.hold.crew":                 "a collection, which is read",
}

// writers write with a user's session.
var writers = []string{"registry/pds", "registry/records", "registry/web", "registry/appview", "registry/index"}

// TestScopesAreThoseInUse reads the sources: what calls a hold, or writes a record, with what a user granted must be granted.
func TestScopesAreThoseInUse(t *testing.T) {
	scopes := appview.Scopes()
	nsids, groups := vocabulary(t)

	called := map[string]bool{}
	for _, file := range sources(t, "hold/holdclient") {
		for _, nsid := range named(file, nsids) {
			called[nsid] = true
		}
	}
	for nsid := range called {
		asked := slices.Contains(scopes, "rpc:"+nsid+"?aud=*")
		switch _, free := noToken[nsid]; {
		case !asked && !free:
			t.Errorf("holdclient calls %s: add it to methods in scopes.go, or to noToken here when no user's token is sent", nsid)
		case asked && free:
			t.Errorf("%s is asked for, and stands in noToken", nsid)
		}
	}
	for nsid := range noToken {
		if !called[nsid] {
			t.Errorf("noToken names %s, which holdclient does not", nsid)
		}
	}
	for _, scope := range scopes {
		if nsid, ok := strings.CutPrefix(scope, "rpc:"); ok && !called[strings.TrimSuffix(nsid, "?aud=*")] {
			t.Errorf("%s is asked for, and holdclient does not call it", scope)
		}
	}

	written := map[string]bool{}
	for _, name := range groups["NSIDManifest"] {
		written[nsids[name]] = true // all that lie in a user's repository
	}
	for _, folder := range writers {
		for _, file := range sources(t, folder) {
			for _, nsid := range collectionsWritten(file, nsids) {
				written[nsid] = true
			}
		}
	}
	if len(written) < 5 {
		t.Fatalf("only %v are found: the sources are no longer read rightly", written)
	}
	for nsid := range written {
		if !slices.Contains(scopes, "repo:"+nsid) {
			t.Errorf("%s is written: add it to collections in scopes.go", nsid)
		}
	}
}

// vocabulary returns the NSIDs that package atcr names, and for each name the others of its group.
func vocabulary(t *testing.T) (nsids map[string]string, groups map[string][]string) {
	nsids, groups = map[string]string{}, map[string][]string{}
	for _, file := range sources(t, ".") {
		for _, d := range file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok || decl.Tok != token.CONST {
				continue
			}
			var group []string
			for _, s := range decl.Specs {
				spec := s.(*ast.ValueSpec)
				for i, name := range spec.Names {
					if strings.HasPrefix(name.Name, "NSID") && i < len(spec.Values) {
						nsids[name.Name] = text(spec.Values[i])
						group = append(group, name.Name)
					}
				}
			}
			for _, name := range group {
				groups[name] = group
			}
		}
	}
	if nsids["NSIDManifest"] != "io.atcr.manifest" {
		t.Fatalf("package atcr has no NSIDManifest any more: %v", nsids)
	}
	return nsids, groups
}

var isNSID = regexp.MustCompile(`^(io\.atcr|com\.atproto)\.[a-zA-Z.]+$`)

// named returns all NSIDs that a file has, as text or by a name of package atcr.
func named(n ast.Node, nsids map[string]string) (found []string) {
	ast.Inspect(n, func(n ast.Node) bool {
		if nsid := nsidOf(n, nsids); nsid != "" {
			found = append(found, nsid)
		}
		return true
	})
	return found
}

func nsidOf(n ast.Node, nsids map[string]string) string {
	switch n := n.(type) {
	case *ast.BasicLit:
		if s := text(n); isNSID.MatchString(s) {
			return s
		}
	case *ast.SelectorExpr:
		if x, ok := n.X.(*ast.Ident); ok && x.Name == "atcr" {
			return nsids[n.Sel.Name]
		}
	}
	return ""
}

// collectionsWritten returns the collections of what looks like a write: a composite literal of some type called write or Write.
func collectionsWritten(file *ast.File, nsids map[string]string) (found []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok || !strings.HasSuffix(strings.ToLower(typeName(lit.Type)), "write") {
			return true
		}
		for _, e := range lit.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok && typeName(kv.Key) == "Collection" {
				if nsid := nsidOf(kv.Value, nsids); nsid != "" {
					found = append(found, nsid)
				}
			}
		}
		return true
	})
	return found
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func text(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		s, _ := strconv.Unquote(lit.Value)
		return s
	}
	return ""
}

// sources parses the Go files of a folder of the project, tests left out: those of the root alone, else all below.
func sources(t *testing.T, folder string) (files []*ast.File) {
	t.Helper()
	root := filepath.Join("..", "..", folder)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // a package that is still to come
		case d.IsDir() && folder == "." && path != root:
			return fs.SkipDir
		case d.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		files = append(files, file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
