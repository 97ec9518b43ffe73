package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// scanner walks JSON text that is known to be valid, which lets it be short. It builds nothing that isn't asked for, and it
// sees what encoding/json hides: duplicate keys, depth and the number of values.
type scanner struct {
	data   []byte
	pos    int
	depth  int
	values int
}

func newScanner(data []byte) (*scanner, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("it is not UTF-8")
	}
	if !json.Valid(data) {
		var v any
		// Only to say what is wrong and where.
		if err := json.Unmarshal(data, &v); err != nil {
			return nil, fmt.Errorf("it is not JSON: %w", err)
		}
		return nil, errors.New("it is not JSON")
	}
	return &scanner{data: data}, nil
}

// peek returns the first byte of what comes next, 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r', ',', ':':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) end() error {
	if s.peek() != 0 {
		return errors.New("there is text after the end")
	}
	return nil
}

// value counts a value inside an object or list.
func (s *scanner) value() error {
	if s.values++; s.values > MaxManifestValues {
		return fmt.Errorf("it has more than %d values", MaxManifestValues)
	}
	return nil
}

func (s *scanner) open(bracket byte, what string) error {
	if s.peek() != bracket {
		return fmt.Errorf("it must be %s", what)
	}
	s.pos++
	if s.depth++; s.depth > MaxManifestDepth {
		return fmt.Errorf("it is nested more than %d deep", MaxManifestDepth)
	}
	return nil
}

// object calls fn for each member, which must take the value. A key that comes twice is an error.
func (s *scanner) object(fn func(key string) error) error {
	if err := s.open('{', "an object"); err != nil {
		return err
	}
	seen := make(map[string]struct{}, 8)
	for s.peek() != '}' {
		if err := s.value(); err != nil {
			return err
		}
		key, err := s.string()
		if err != nil {
			return err
		}
		if _, twice := seen[key]; twice {
			return fmt.Errorf("key %q comes twice", clip(key))
		}
		seen[key] = struct{}{}
		s.peek()
		if err := fn(key); err != nil {
			return fmt.Errorf("%s: %w", clip(key), err)
		}
	}
	s.pos++
	s.depth--
	return nil
}

// array calls fn for each element, which must take it.
func (s *scanner) array(fn func() error) error {
	if err := s.open('[', "a list"); err != nil {
		return err
	}
	for n := 0; s.peek() != ']'; n++ {
		if err := s.value(); err != nil {
			return err
		}
		if err := fn(); err != nil {
			return fmt.Errorf("[%d]: %w", n, err)
		}
	}
	s.pos++
	s.depth--
	return nil
}

// raw takes the text of a string, number, true, false or null.
func (s *scanner) raw() []byte {
	first := s.peek()
	start := s.pos
	if first == '"' {
		for s.pos++; s.data[s.pos] != '"'; s.pos++ {
			if s.data[s.pos] == '\\' {
				s.pos++
			}
		}
		s.pos++
		return s.data[start:s.pos]
	}
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r', ',', ']', '}':
			return s.data[start:s.pos]
		}
		s.pos++
	}
	return s.data[start:s.pos]
}

func (s *scanner) string() (string, error) {
	if s.peek() != '"' {
		return "", errors.New("it must be a string")
	}
	raw := s.raw()
	for _, c := range raw {
		if c == '\\' {
			var out string
			err := json.Unmarshal(raw, &out)
			return out, err
		}
	}
	return string(raw[1 : len(raw)-1]), nil
}

func (s *scanner) int() (int64, error) {
	if c := s.peek(); c != '-' && (c < '0' || c > '9') {
		return 0, errors.New("it must be a whole number")
	}
	raw := s.raw()
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is not a whole number of 64 bits", clip(string(raw)))
	}
	return n, nil
}

// null takes a null and says whether there was one.
func (s *scanner) null() bool {
	if s.peek() != 'n' {
		return false
	}
	s.raw()
	return true
}

func (s *scanner) strings() ([]string, error) {
	var out []string
	err := s.array(func() error {
		text, err := s.string()
		out = append(out, text)
		return err
	})
	return out, err
}

func (s *scanner) stringMap() (map[string]string, error) {
	out := make(map[string]string)
	err := s.object(func(key string) error {
		text, err := s.string()
		out[key] = text
		return err
	})
	return out, err
}

// skip takes a value of any kind, with the same checks.
func (s *scanner) skip() error {
	switch s.peek() {
	case '{':
		return s.object(func(string) error { return s.skip() })
	case '[':
		return s.array(s.skip)
	default:
		s.raw()
		return nil
	}
}
