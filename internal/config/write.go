package config

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Format is how a configuration file is written.
type Format string

// Formats.
const (
	YAML Format = "yaml"
	TOML Format = "toml"
)

// FormatOf returns the format by which a file is read: TOML when its name ends in .toml.
func FormatOf(file string) Format {
	if strings.EqualFold(filepath.Ext(file), ".toml") {
		return TOML
	}
	return YAML
}

// Write prints a configuration with comments: for an [AppView] or a [Hold], every key with its comment and its value. Secrets
// are left empty.
func Write(w io.Writer, format Format, c any) error {
	out := &writer{Writer: bufio.NewWriter(w), toml: format == TOML}
	var title string
	switch c.(type) {
	case *AppView:
		title = "atcr-appview"
	case *Hold:
		title = "atcr-hold"
	default:
		return fmt.Errorf("config: a %T is no configuration", c)
	}
	prefix := Prefix(c)
	out.comment("", fmt.Sprintf("Configuration of %s. Every key is here with its default. An environment variable wins over this "+
		"file: %s_ and the path of the key in capitals, as in %s for server.addr. An empty variable counts as "+
		"unset.", title, prefix, EnvName(prefix, "server.addr")))
	out.fields(reflect.ValueOf(c).Elem(), "", "", false)
	return out.Flush()
}

// writer prints one of the two formats. In a struct, sections come after the keys, as TOML wants it.
type writer struct {
	*bufio.Writer
	toml bool
}

// fields prints those of a section. YAML indents them; TOML names the section's path.
func (w *writer) fields(v reflect.Value, path, indent string, unbuilt bool) {
	for _, f := range fields(v.Type()) {
		value, doc := v.FieldByIndex(f.Index), f.Tag.Get("doc")
		ahead := f.Tag.Get("unbuilt") != ""
		if ahead && !unbuilt {
			doc = strings.TrimSpace(doc + " (Not built yet: read, but without effect.)")
		}
		if example := f.Tag.Get("toml"); w.toml && example != "" {
			doc, _, _ = strings.Cut(doc, "\n")
			doc += "\n" + example
		}
		key := f.Tag.Get("key")
		section := f.Type.Kind() == reflect.Struct
		if path == "" || section && w.toml {
			w.WriteString("\n")
		}
		w.comment(indent, doc)
		switch {
		case section && w.toml:
			fmt.Fprintf(w, "[%s]\n", join(path, key))
			w.fields(value, join(path, key), "", unbuilt || ahead)
			continue
		case section:
			fmt.Fprintf(w, "%s%s:\n", indent, key)
			w.fields(value, join(path, key), indent+"  ", unbuilt || ahead)
			continue
		}
		if f.Tag.Get("secret") != "" {
			value = reflect.Zero(f.Type)
		}
		if w.toml {
			fmt.Fprintf(w, "%s = %s\n", key, tomlValue(value))
		} else {
			fmt.Fprintf(w, "%s%s: %s\n", indent, key, yamlValue(value))
		}
	}
}

func tomlValue(v reflect.Value) string {
	if v.Type() == durationType {
		return strconv.Quote(formatDuration(time.Duration(v.Int())))
	}
	var parts []string
	switch v.Kind() {
	case reflect.String:
		return tomlString(v.String())
	case reflect.Slice:
		for i := range v.Len() {
			parts = append(parts, tomlValue(v.Index(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Struct:
		for i := range v.NumField() {
			parts = append(parts, v.Type().Field(i).Tag.Get("key")+" = "+tomlValue(v.Field(i)))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	default:
		return fmt.Sprint(v.Interface())
	}
}

// tomlString is a basic string of TOML, which has fewer escapes than Go.
func tomlString(s string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&out, `\u%04X`, r)
		default:
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
	return out.String()
}

// plain is text that YAML reads as text without quotes.
var plain = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9._/-]*$`)

func yamlValue(v reflect.Value) string {
	if v.Type() == durationType {
		return formatDuration(time.Duration(v.Int()))
	}
	switch v.Kind() {
	case reflect.String:
		s := v.String()
		switch strings.ToLower(s) {
		case "true", "false", "null", "yes", "no", "on", "off":
			return strconv.Quote(s)
		}
		if plain.MatchString(s) {
			return s
		}
		return strconv.Quote(s)
	case reflect.Slice:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, yamlValue(v.Index(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Struct:
		var parts []string
		for i := range v.NumField() {
			parts = append(parts, v.Type().Field(i).Tag.Get("key")+": "+yamlValue(v.Field(i)))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	default:
		return fmt.Sprint(v.Interface())
	}
}

// comment writes text as comment lines of at most 100 columns. Lines after the first newline stay as they are.
func (w *writer) comment(indent, text string) {
	if text == "" {
		return
	}
	first, rest, _ := strings.Cut(text, "\n")
	line := ""
	for word := range strings.FieldsSeq(first) {
		if line != "" && len(indent)+2+len(line)+1+len(word) > 100 {
			fmt.Fprintf(w, "%s# %s\n", indent, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	fmt.Fprintf(w, "%s# %s\n", indent, line)
	if rest != "" {
		for l := range strings.SplitSeq(rest, "\n") {
			fmt.Fprintf(w, "%s# %s\n", indent, l)
		}
	}
}
