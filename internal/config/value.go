package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// setNode sets a field that is no section and no list of objects.
func setNode(v reflect.Value, n *node) error {
	if v.Kind() == reflect.Slice {
		if n.kind != list {
			return errors.New("must be a list")
		}
		out := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
		for i, item := range n.items {
			if err := setNode(out.Index(i), item); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
		v.Set(out)
		return nil
	}
	if n.kind != scalar {
		return errors.New("must be a single value")
	}
	return setText(v, n.text)
}

// setText sets a field from text, as the environment has it.
func setText(v reflect.Value, text string) error {
	if v.Type() == durationType {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is no duration: write 30s, 15m or 1h", text)
		}
		v.SetInt(int64(d))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q must be true or false", text)
		}
		v.SetBool(b)
	case reflect.Int:
		i, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		v.SetInt(int64(i))
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			return setStructsText(v, text)
		}
		var out []string
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
		v.Set(reflect.ValueOf(out))
	default:
		return fmt.Errorf("a %s can't be set", v.Type())
	}
	return nil
}

// setStructsText sets a list of objects from YAML on one line.
func setStructsText(v reflect.Value, text string) error {
	n, err := parseYAML([]byte(text))
	if err != nil {
		return err
	}
	l := newLoader(reflect.ValueOf(struct{}{}))
	l.structs(member{value: n}, v, "")
	return errors.Join(l.errs...)
}

// formatDuration writes a duration without parts that are zero.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
