package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// loader fills one configuration.
type loader struct {
	file   string
	prefix string
	root   reflect.Value
	also   map[string]leaf   // other paths of fields
	origin map[string]string // path of a field that was set → "file:line" or the variable
	used   map[string]bool   // unbuilt sections that were set
	errs   []error
}

func newLoader(root reflect.Value) *loader {
	return &loader{root: root, also: map[string]leaf{}, origin: map[string]string{}, used: map[string]bool{}}
}

// problem is what a check finds: a field by its path, and what to do.
type problem struct{ path, text string }

func load(c any, prefix, file string, environ []string, check func() []problem) ([]string, error) {
	l := newLoader(reflect.ValueOf(c).Elem())
	l.file, l.prefix = file, prefix
	for _, f := range leaves(l.root) {
		if f.also != "" {
			l.also[f.also] = f
		}
	}
	defaults := snapshot(l.root)
	if err := l.readFile(); err != nil {
		return nil, err
	}
	warnings := l.readEnv(environ)
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	for _, p := range check() {
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
	parse := parseYAML
	if strings.EqualFold(filepath.Ext(l.file), ".toml") {
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
			continue
		}
		l.set(f.path, name)
	}
	slices.Sort(warnings)
	return warnings
}

func (l *loader) set(path, origin string) {
	l.origin[path] = origin
	section, _, _ := strings.Cut(path, ".")
	l.used[section] = true
}

// unbuilt is the one warning about settings that do nothing yet.
func (l *loader) unbuilt(defaults map[string]any) string {
	var names []string
	for i := range l.root.NumField() {
		f := l.root.Type().Field(i)
		if f.Tag.Get("unbuilt") != "" && l.used[f.Tag.Get("key")] {
			names = append(names, f.Tag.Get("key"))
		}
	}
	for _, f := range leaves(l.root) {
		if f.unbuilt && !reflect.DeepEqual(defaults[f.path], f.value.Interface()) {
			names = append(names, f.path)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "these settings are read but do nothing yet, their feature is not built: " + strings.Join(names, ", ")
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
