package config

import (
	"bufio"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Write prints a configuration as commented YAML: for an [AppView] or a [Hold], every key with its comment and its value. Secrets
// are left empty.
func Write(w io.Writer, c any) error {
	out := bufio.NewWriter(w)
	v := reflect.ValueOf(c).Elem()
	var title, prefix string
	switch c.(type) {
	case *AppView:
		title, prefix = "atcr-appview", AppViewPrefix
	case *Hold:
		title, prefix = "atcr-hold", HoldPrefix
	default:
		return fmt.Errorf("config: a %T is no configuration", c)
	}
	comment(out, "", fmt.Sprintf("Configuration of %s. Every key is here with its default. An environment variable wins over this "+
		"file: %s_ and the path of the key in capitals, as in %s for server.addr. An empty variable counts as unset.", title, prefix, EnvName(prefix, "server.addr")))
	writeFields(out, v, "", false)
	return out.Flush()
}

func writeFields(out *bufio.Writer, v reflect.Value, indent string, unbuilt bool) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		doc := f.Tag.Get("doc")
		ahead := f.Tag.Get("unbuilt") != ""
		if ahead && !unbuilt {
			doc = strings.TrimSpace(doc + " (Not built yet: read, but without effect.)")
		}
		if indent == "" {
			out.WriteString("\n")
		}
		comment(out, indent, doc)
		key := f.Tag.Get("key")
		if f.Type.Kind() == reflect.Struct {
			fmt.Fprintf(out, "%s%s:\n", indent, key)
			writeFields(out, v.Field(i), indent+"  ", unbuilt || ahead)
			continue
		}
		value := v.Field(i)
		if f.Tag.Get("secret") != "" {
			value = reflect.Zero(f.Type)
		}
		fmt.Fprintf(out, "%s%s: %s\n", indent, key, yamlValue(value))
	}
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
func comment(out *bufio.Writer, indent, text string) {
	if text == "" {
		return
	}
	first, rest, _ := strings.Cut(text, "\n")
	line := ""
	for word := range strings.FieldsSeq(first) {
		if line != "" && len(indent)+2+len(line)+1+len(word) > 100 {
			fmt.Fprintf(out, "%s# %s\n", indent, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	fmt.Fprintf(out, "%s# %s\n", indent, line)
	if rest != "" {
		for l := range strings.SplitSeq(rest, "\n") {
			fmt.Fprintf(out, "%s# %s\n", indent, l)
		}
	}
}
