package archtest

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// sources finds the values of constants and of fields' defaults in the code, without building it: tests of one package can't see
// what others don't export.
type sources struct {
	root string
	dirs map[string]*source
}

// source is one package.
type source struct {
	files  []*ast.File
	consts map[string]constSpec
}

type constSpec struct {
	value ast.Expr
	file  *ast.File
}

func newSources(root string) *sources { return &sources{root: root, dirs: map[string]*source{}} }

// load parses a package; the folder "atcr" is the root.
func (s *sources) load(dir string) (*source, error) {
	if p := s.dirs[dir]; p != nil {
		return p, nil
	}
	path := filepath.Join(s.root, filepath.FromSlash(dir))
	if dir == "atcr" {
		path = s.root
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	p := &source{consts: map[string]constSpec{}}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(path, e.Name()), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, f)
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				for i, name := range v.Names {
					if i < len(v.Values) {
						p.consts[name.Name] = constSpec{v.Values[i], f}
					}
				}
			}
		}
	}
	s.dirs[dir] = p
	return p, nil
}

// values lists what a constant is, or else which constants a field or variable of that name is given anywhere in the package: by
// an assignment, or in a call together with it, as in cmp.Or(o.Field, 3).
func (s *sources) values(dir, name string) (out []int64, err error) {
	p, err := s.load(dir)
	if err != nil {
		return nil, err
	}
	take := func(e ast.Expr, f *ast.File) {
		v, err := s.eval(p, f, e)
		if err != nil {
			return
		}
		if n, ok := constant.Int64Val(constant.ToInt(v)); ok && n != 0 {
			out = append(out, n)
		}
	}
	if c, ok := p.consts[name]; ok {
		take(c.value, c.file)
		return out, nil
	}
	for _, f := range p.files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for i, to := range n.Lhs {
					if i < len(n.Rhs) && names(to, name) {
						take(n.Rhs[i], f)
					}
				}
			case *ast.CallExpr:
				for i := range n.Args {
					if i+1 < len(n.Args) && mentions(n.Args[i], name) {
						take(n.Args[i+1], f)
					}
				}
			}
			return true
		})
	}
	return out, nil
}

// names reports whether an expression is a variable or field of that name.
func names(e ast.Expr, name string) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == name
	case *ast.SelectorExpr:
		return e.Sel.Name == name
	}
	return false
}

func mentions(e ast.Expr, name string) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == name {
			found = true
		}
		return !found
	})
	return found
}

// hasField reports whether a struct type has a field.
func (s *sources) hasField(dir, typ, field string) (found bool) {
	p, err := s.load(dir)
	if err != nil {
		return false
	}
	for _, f := range p.files {
		ast.Inspect(f, func(n ast.Node) bool {
			t, ok := n.(*ast.TypeSpec)
			if !ok || t.Name.Name != typ {
				return true
			}
			if st, ok := t.Type.(*ast.StructType); ok {
				for _, fl := range st.Fields.List {
					for _, id := range fl.Names {
						found = found || id.Name == field
					}
				}
			}
			return false
		})
	}
	return found
}

var durations = map[string]time.Duration{
	"Nanosecond": 1, "Microsecond": time.Microsecond, "Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute,
	"Hour": time.Hour,
}

// eval computes a constant expression.
func (s *sources) eval(p *source, f *ast.File, e ast.Expr) (constant.Value, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0), nil
	case *ast.ParenExpr:
		return s.eval(p, f, e.X)
	case *ast.Ident:
		if c, ok := p.consts[e.Name]; ok {
			return s.eval(p, c.file, c.value)
		}
	case *ast.SelectorExpr:
		if pkg, ok := e.X.(*ast.Ident); ok {
			return s.evalOther(f, pkg.Name, e.Sel.Name)
		}
	case *ast.BinaryExpr:
		x, err := s.eval(p, f, e.X)
		if err != nil {
			return nil, err
		}
		y, err := s.eval(p, f, e.Y)
		if err != nil {
			return nil, err
		}
		switch e.Op {
		case token.SHL, token.SHR:
			n, _ := constant.Uint64Val(y)
			return constant.Shift(x, e.Op, uint(n)), nil
		case token.QUO:
			return constant.BinaryOp(x, token.QUO_ASSIGN, y), nil // of whole numbers
		case token.ADD, token.SUB, token.MUL:
			return constant.BinaryOp(x, e.Op, y), nil
		}
	case *ast.CallExpr:
		if len(e.Args) != 1 {
			break
		}
		v, err := s.eval(p, f, e.Args[0])
		if err == nil && names(e.Fun, "len") {
			v = constant.MakeInt64(int64(len(constant.StringVal(v))))
		}
		return v, err // else a conversion
	}
	return nil, fmt.Errorf("%T is no constant", e)
}

func (s *sources) evalOther(f *ast.File, pkg, name string) (constant.Value, error) {
	if d, ok := durations[name]; ok && pkg == "time" {
		return constant.MakeInt64(int64(d)), nil
	}
	for _, imp := range f.Imports {
		path, err := strconv.Unquote(imp.Path.Value)
		if err != nil || imp.Name != nil && imp.Name.Name != pkg || imp.Name == nil && path[strings.LastIndexByte(path, '/')+1:] != pkg {
			continue
		}
		dir, ours := strings.CutPrefix(path, modulePath+"/")
		if !ours {
			break
		}
		other, err := s.load(dir)
		if err != nil {
			return nil, err
		}
		if c, ok := other.consts[name]; ok {
			return s.eval(other, c.file, c.value)
		}
	}
	return nil, fmt.Errorf("%s.%s is not found", pkg, name)
}
