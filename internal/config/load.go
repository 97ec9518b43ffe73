package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
)

// maxFile limits a configuration file, in bytes.
const maxFile = 1 << 20

// Prefixes of the environment variables.
const (
	AppViewPrefix = "ATCR"
	HoldPrefix    = "HOLD"
)

// Prefix is that of the environment variables of a [Hold] or an [AppView].
func Prefix(c any) string {
	if _, ok := c.(*Hold); ok {
		return HoldPrefix
	}
	return AppViewPrefix
}

// LoadAppView reads and checks an AppView's configuration. An empty file name means defaults and environment only.
// The warnings are for the log, once, at start. The error says every problem it found, one a line, with file and line
// where it has one.
func LoadAppView(file string, environ []string) (*AppView, []string, error) {
	c := DefaultAppView()
	warnings, err := load(c, AppViewPrefix, file, environ, c.check)
	return c, warnings, err
}

// LoadHold is [LoadAppView] for a hold.
func LoadHold(file string, environ []string) (*Hold, []string, error) {
	c := DefaultHold()
	warnings, err := load(c, HoldPrefix, file, environ, c.check)
	if err == nil {
		warnings = append(warnings, c.warnings()...)
	}
	return c, warnings, err
}

// LoadHoldText is [LoadHold] for a text that a backup holds; name stands for it in errors. Its section backup is not used.
// Secrets are those of the environment: a backup has none, and a text that sets one is refused, since [Changed] would not
// show it to who is asked.
func LoadHoldText(name string, text []byte, environ []string) (*Hold, error) {
	c := DefaultHold()
	l := newLoader(reflect.ValueOf(c).Elem())
	l.file, l.text, l.prefix = name, text, HoldPrefix
	_, err := l.load(environ, func() []problem {
		c.Backup = DefaultHold().Backup
		found := problems(c.check())
		for _, f := range leaves(l.root) {
			if f.secret && !f.value.IsZero() && strings.HasPrefix(l.origin[f.path], name) {
				found.add(f.path, "is a secret, and no backup has one: who wrote this?")
			}
		}
		return found
	})
	return c, err
}

// ReadHold is [LoadHold] for verbs that need no hold: nothing is required.
func ReadHold(file string, environ []string) (*Hold, error) {
	c := DefaultHold()
	_, err := load(c, HoldPrefix, file, environ, func() []problem { return nil })
	return c, err
}

// Changed returns what differs from the defaults, a line for each key; secrets are left out.
func Changed(c *Hold) (lines []string) {
	defaults := snapshot(reflect.ValueOf(DefaultHold()).Elem())
	for _, f := range leaves(reflect.ValueOf(c).Elem()) {
		if !f.secret && !same(reflect.ValueOf(defaults[f.path]), f.value) {
			lines = append(lines, f.path+": "+yamlValue(f.value))
		}
	}
	return lines
}

// loader fills one configuration.
type loader struct {
	file   string
	text   []byte // in place of the file's
	prefix string
	root   reflect.Value
	also   map[string]leaf   // other paths of fields
	origin map[string]string // path of a field that was set → "file:line" or the variable
	bad    map[string]bool   // path of a field whose value can't be read
	errs   []error
}

func newLoader(root reflect.Value) *loader {
	return &loader{root: root, also: map[string]leaf{}, origin: map[string]string{}, bad: map[string]bool{}}
}

// problem is what a check finds: a field by its path, and what to do.
type problem struct{ path, text string }

func load(c any, prefix, file string, environ []string, check func() []problem) ([]string, error) {
	l := newLoader(reflect.ValueOf(c).Elem())
	l.file, l.prefix = file, prefix
	return l.load(environ, check)
}

func (l *loader) load(environ []string, check func() []problem) ([]string, error) {
	for _, f := range leaves(l.root) {
		if f.also != "" {
			l.also[f.also] = f
		}
	}
	defaults := snapshot(l.root)
	unread := l.readFile()
	if unread != nil {
		l.errs = append(l.errs, unread)
	}
	warnings := l.readEnv(environ)
	for _, p := range check() {
		if l.bad[p.path] || unread != nil && l.origin[p.path] == "" { // said already; or the file may set it
			continue
		}
		l.fail(l.where(p.path), "%s: %s", p.path, p.text)
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	if w := l.unbuilt(defaults); w != "" {
		warnings = append(warnings, w)
	}
	return warnings, nil
}

func (l *loader) fail(where, format string, args ...any) {
	if where != "" {
		format = where + ": " + format
	}
	l.errs = append(l.errs, fmt.Errorf(format, args...))
}

// where says what set a field; for a required one that nothing set, it says where it could be.
func (l *loader) where(path string) string {
	if origin := l.origin[path]; origin != "" {
		return origin
	}
	return l.file
}

func (l *loader) readFile() error {
	if l.file == "" {
		return nil
	}
	if l.text != nil {
		return l.readText(l.text)
	}
	info, err := os.Stat(l.file)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if info.Size() > maxFile {
		return fmt.Errorf("%s: it has %d bytes, the limit is %d", l.file, info.Size(), maxFile)
	}
	raw, err := os.ReadFile(l.file)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	return l.readText(raw)
}

func (l *loader) readText(raw []byte) error {
	parse := parseYAML
	if FormatOf(l.file) == TOML {
		parse = parseTOML
	}
	tree, err := parse(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", l.file, err)
	}
	l.object(tree, l.root, "")
	return nil
}

// readEnv sets what the environment has, and warns of what looks like a misspelt key.
func (l *loader) readEnv(environ []string) (warnings []string) {
	byName := map[string]leaf{}
	for _, f := range leaves(l.root) {
		byName[EnvName(l.prefix, f.path)] = f
		if f.also != "" {
			byName[EnvName(l.prefix, f.also)] = f
		}
	}
	var names []string
	for name := range byName {
		names = append(names, name)
	}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if value == "" || !strings.HasPrefix(name, l.prefix+"_") {
			continue
		}
		f, ok := byName[name]
		if !ok {
			if near := nearest(name, names); near != "" {
				warnings = append(warnings, fmt.Sprintf("environment variable %s is no setting; did you mean %s?", name, near))
			}
			continue
		}
		if err := setText(f.value, value); err != nil {
			l.fail(name, "%s: %s", f.path, hide(f.secret, err))
			l.bad[f.path] = true
			continue
		}
		l.origin[f.path] = name
	}
	slices.Sort(warnings)
	return warnings
}

// unbuilt is the one warning about settings that do nothing yet: those that were set to something else than the default, which is what
// `config init` writes.
func (l *loader) unbuilt(defaults map[string]any) string {
	var names []string
	for _, f := range leaves(l.root) {
		if f.unbuilt && l.origin[f.path] != "" && !same(reflect.ValueOf(defaults[f.path]), f.value) {
			names = append(names, fmt.Sprintf("%s (%s)", f.path, l.origin[f.path]))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "these settings are read but do nothing yet, their feature is not built: " + strings.Join(names, ", ")
}

// same reports whether two values are equal; no list is an empty one.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// EnvName is the environment variable of a key.
func EnvName(prefix, path string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// hide keeps a secret's value out of a message.
func hide(secret bool, err error) string {
	if secret {
		return "the value can't be read (not shown, it is a secret)"
	}
	return err.Error()
}
