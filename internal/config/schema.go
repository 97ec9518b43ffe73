package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// leaf is a field that a key sets.
type leaf struct {
	path    string
	also    string
	secret  bool
	unbuilt bool
	value   reflect.Value
}

// fields are those that keys set, of the structs that are embedded too.
func fields(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Anonymous })
}

// leaves returns all fields of a configuration that are no sections.
func leaves(root reflect.Value) []leaf { return appendLeaves(nil, root, "", false) }

func appendLeaves(out []leaf, v reflect.Value, prefix string, unbuilt bool) []leaf {
	for _, f := range fields(v.Type()) {
		path, unbuilt, value := join(prefix, f.Tag.Get("key")), unbuilt || f.Tag.Get("unbuilt") != "", v.FieldByIndex(f.Index)
		if f.Type.Kind() == reflect.Struct {
			out = appendLeaves(out, value, path, unbuilt)
			continue
		}
		out = append(out, leaf{path, f.Tag.Get("also"), f.Tag.Get("secret") != "", unbuilt, value})
	}
	return out
}

func snapshot(root reflect.Value) map[string]any {
	out := map[string]any{}
	for _, f := range leaves(root) {
		out[f.path] = f.value.Interface()
	}
	return out
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}

// object sets the fields of a struct from a node's.
func (l *loader) object(n *node, v reflect.Value, prefix string) {
	if n == nil || n.kind == null {
		return
	}
	if n.kind != object {
		l.fail(l.at(n.line), "%s must be a section: keys and values, indented", orFile(prefix))
		return
	}
	for _, member := range n.members {
		path := join(prefix, member.key)
		field, sf, ok := fieldByKey(v, member.key)
		if !ok {
			if f, known := l.also[path]; known {
				l.leaf(member, f.value, path, f.path, f.secret)
				continue
			}
			l.unknown(member, v, prefix)
			continue
		}
		if field.Kind() == reflect.Struct {
			l.object(member.value, field, path)
			continue
		}
		l.leaf(member, field, path, path, sf.Tag.Get("secret") != "")
	}
}

// leaf sets one field. path is where it stands, name the field's own path.
func (l *loader) leaf(m member, v reflect.Value, path, name string, secret bool) {
	if m.value.kind == null {
		return
	}
	if earlier, ok := l.origin[name]; ok {
		l.fail(l.at(m.line), "%s is already set by %s in %s", path, name, earlier)
		return
	}
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct {
		l.structs(m, v, path)
	} else if err := setNode(v, m.value); err != nil {
		l.fail(l.at(m.line), "%s: %s", path, hide(secret, err))
		l.bad[name] = true
	}
	l.origin[name] = l.at(m.line)
}

// structs sets a list of objects.
func (l *loader) structs(m member, v reflect.Value, path string) {
	if m.value.kind != list {
		l.fail(l.at(m.line), "%s must be a list", path)
		return
	}
	out := reflect.MakeSlice(v.Type(), len(m.value.items), len(m.value.items))
	for i, item := range m.value.items {
		l.object(item, out.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(out)
}

func (l *loader) unknown(m member, v reflect.Value, prefix string) {
	var siblings []string
	for _, f := range fields(v.Type()) {
		siblings = append(siblings, f.Tag.Get("key"))
	}
	for path := range l.also {
		if parent, key, ok := cutLast(path); ok && parent == prefix {
			siblings = append(siblings, key)
		}
	}
	near := nearest(m.key, siblings)
	if near != "" {
		near = join(prefix, near)
	} else {
		near = l.elsewhere(m.key)
	}
	hint := "; it takes " + strings.Join(siblings, ", ")
	if near != "" {
		hint = "; did you mean " + near + "?"
	}
	if !nameLike.MatchString(m.key) || near == "" && (hasSecret(v) || strings.ToLower(m.key) != m.key) { // it may be a value
		l.fail(l.at(m.line), "unknown key in %s (not shown, it may be a secret)%s", orFile(prefix), hint)
		return
	}
	l.fail(l.at(m.line), "unknown key %s%s", join(prefix, m.key), hint)
}

var nameLike = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

// hasSecret reports whether one of a section's own fields is a secret.
func hasSecret(v reflect.Value) bool {
	return slices.ContainsFunc(fields(v.Type()), func(f reflect.StructField) bool { return f.Tag.Get("secret") != "" })
}

// settings are the names of all keys and sections of both programs.
func settings() map[string]bool {
	names := map[string]bool{}
	var add func(reflect.Type)
	add = func(t reflect.Type) {
		for _, f := range fields(t) {
			names[f.Tag.Get("key")] = true
			switch {
			case f.Type.Kind() == reflect.Struct:
				add(f.Type)
			case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
				add(f.Type.Elem())
			}
		}
	}
	add(reflect.TypeFor[Hold]())
	add(reflect.TypeFor[AppView]())
	return names
}

// elsewhere finds a key of that name in another section.
func (l *loader) elsewhere(key string) string {
	for _, f := range leaves(l.root) {
		if _, name, _ := cutLast(f.path); name == key {
			return f.path
		}
	}
	return ""
}

func cutLast(path string) (parent, key string, ok bool) {
	i := strings.LastIndexByte(path, '.')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

func (l *loader) at(line int) string {
	if line == 0 {
		return l.file
	}
	return fmt.Sprintf("%s:%d", l.file, line)
}

func orFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func fieldByKey(v reflect.Value, key string) (reflect.Value, reflect.StructField, bool) {
	for _, f := range fields(v.Type()) {
		if f.Tag.Get("key") == key {
			return v.FieldByIndex(f.Index), f, true
		}
	}
	return reflect.Value{}, reflect.StructField{}, false
}

var durationType = reflect.TypeFor[time.Duration]()

// nearest returns the name most like s, empty when none is close: at most a third of the letters differ.
func nearest(s string, names []string) string {
	best, bestDistance := "", len(s)/3+1
	if len(s) > 100 { // no misspelt name
		return best
	}
	slices.Sort(names)
	for _, name := range names {
		if d := distance(s, name); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

// distance is how many letters have to be put in, taken out, changed or swapped with their neighbour.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
