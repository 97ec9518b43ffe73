package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// node is a value of a file with its place.
type node struct {
	kind    kind
	line    int
	text    string
	items   []*node
	members []member
}

type member struct {
	key   string
	line  int
	value *node
}

type kind int

const (
	null kind = iota
	scalar
	list
	object
)

// parseYAML reads one document. Aliases and merges are refused: a configuration file needs neither, and they can grow without
// bound. Errors name the line.
func parseYAML(raw []byte) (*node, error) {
	file, err := parser.ParseBytes(raw, 0)
	if err != nil {
		return nil, withoutSource(err)
	}
	switch len(file.Docs) {
	case 0:
		return &node{}, nil
	case 1:
		return fromYAML(file.Docs[0].Body)
	default:
		return nil, errors.New("it has more than one YAML document")
	}
}

// withoutSource is a parser's error without the lines around it, which it would print: a password may stand there.
func withoutSource(err error) error {
	var where yaml.Error
	if !errors.As(err, &where) {
		return errors.New("it is no YAML")
	}
	text := where.GetMessage()
	if what, _, ok := strings.Cut(text, `header option: "`); ok { // the rest repeats a value that begins with | or >
		text = what + "header option: a value that begins with | or > needs quotes"
	}
	text = withoutWords(text)
	if t := where.GetToken(); t != nil && t.Position != nil {
		return fmt.Errorf("line %d: %s", t.Position.Line, text)
	}
	return errors.New(text)
}

var (
	quoted   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	tomlName = regexp.MustCompile(`(?s)\b(key|table) (.*) (already exists|is already defined|should be)`)
)

// withoutWords is a parser's message without what it repeats of the file, but for names of settings: where it expects a key there may
// stand a value.
func withoutWords(text string) string {
	if what, _, ok := strings.Cut(text, ": strconv."); ok { // the rest repeats the value
		text = what
	}
	known := settings()
	text = tomlName.ReplaceAllStringFunc(text, func(s string) string {
		parts := tomlName.FindStringSubmatch(s)
		if known[parts[2]] {
			return s
		}
		return parts[1] + " " + parts[3]
	})
	return quoted.ReplaceAllStringFunc(text, func(s string) string {
		if word, err := strconv.Unquote(s); err == nil && (known[word] || word == "true" || word == "false") {
			return s
		}
		return "…"
	})
}

func fromYAML(n ast.Node) (*node, error) {
	if n == nil {
		return &node{}, nil
	}
	out := &node{line: n.GetToken().Position.Line}
	switch n := n.(type) {
	case *ast.NullNode, *ast.CommentGroupNode:
		return out, nil
	case *ast.MappingNode:
		out.kind = object
		for _, pair := range n.Values {
			if err := out.add(pair); err != nil {
				return nil, err
			}
		}
		return out, nil
	case *ast.MappingValueNode:
		out.kind = object
		return out, out.add(n)
	case *ast.SequenceNode:
		out.kind = list
		for _, v := range n.Values {
			item, err := fromYAML(v)
			if err != nil {
				return nil, err
			}
			if text, ok := splitText(v); ok {
				item = &node{kind: scalar, line: item.line, text: text}
			}
			out.items = append(out.items, item)
		}
		return out, nil
	case *ast.StringNode:
		out.text = n.Value
	case *ast.LiteralNode:
		out.text = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		out.text = n.GetToken().Value
	default:
		return nil, fmt.Errorf("line %d: %s is not allowed here", out.line, strings.ToLower(n.Type().String()))
	}
	out.kind = scalar
	return out, nil
}

// splitText undoes what the parser does to a list inside braces: in {permissions: [blob:read]} it takes blob:read for a mapping,
// though YAML wants a space after that colon.
func splitText(n ast.Node) (string, bool) {
	m, ok := n.(*ast.MappingNode)
	if !ok || len(m.Values) != 1 || m.IsFlowStyle {
		return "", false
	}
	pair := m.Values[0]
	key, value := pair.Key.GetToken(), pair.Value.GetToken()
	_, isText := pair.Value.(ast.ScalarNode)
	adjacent := value.Position.Offset == pair.Start.Position.Offset+1 && value.Position.Line == pair.Start.Position.Line
	if !isText || !adjacent || key.Type != token.StringType {
		return "", false
	}
	return key.Value + ":" + value.Value, true
}

func (n *node) add(pair *ast.MappingValueNode) error {
	line := pair.Key.GetToken().Position.Line
	if pair.Key.IsMergeKey() {
		return fmt.Errorf("line %d: a merge is not allowed here", line)
	}
	value, err := fromYAML(pair.Value)
	if err != nil {
		return err
	}
	n.members = append(n.members, member{pair.Key.GetToken().Value, line, value})
	return nil
}

// parseTOML reads a TOML file.
func parseTOML(raw []byte) (*node, error) {
	var values map[string]any
	if err := toml.Unmarshal(raw, &values); err != nil {
		var where *toml.DecodeError
		if errors.As(err, &where) {
			line, _ := where.Position()
			return nil, fmt.Errorf("line %d: %s", line, withoutWords(where.Error()))
		}
		return nil, errors.New(withoutWords(err.Error()))
	}
	return fromTOML(values, "", tomlLines(raw)), nil
}

// tomlLines finds the line of each key. In a list of tables it is that of the first.
func tomlLines(raw []byte) map[string]int {
	lines := map[string]int{}
	p := &unstable.Parser{}
	p.Reset(raw)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		path, line := "", 0
		for it := e.Key(); it.Next(); {
			k := it.Node()
			path = join(path, string(k.Data))
			if line == 0 {
				line = p.Shape(k.Raw).Start.Line
			}
			full := path
			if e.Kind == unstable.KeyValue {
				full = join(table, path)
			}
			if lines[full] == 0 {
				lines[full] = line
			}
		}
		if e.Kind != unstable.KeyValue {
			table = path
		}
	}
	return lines
}

func fromTOML(v any, path string, lines map[string]int) *node {
	out := &node{line: lines[path]}
	switch v := v.(type) {
	case nil:
	case map[string]any:
		out.kind = object
		for _, key := range slices.Sorted(maps.Keys(v)) {
			sub := join(path, key)
			out.members = append(out.members, member{key, lines[sub], fromTOML(v[key], sub, lines)})
		}
	case []any:
		out.kind = list
		for _, item := range v {
			out.items = append(out.items, fromTOML(item, path, lines))
		}
	default:
		out.kind, out.text = scalar, fmt.Sprint(v)
	}
	return out
}
