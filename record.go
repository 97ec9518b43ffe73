package atcr

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Record is what every record type is.
type Record interface {
	// NSID is the collection, which is also the record's $type.
	NSID() string
	// Check says whether the record keeps to its lexicon: what is required is there, and nothing is too long or of
	// the wrong form. Errors: [ErrRecord].
	Check() error
	json.Marshaler
	json.Unmarshaler
}

// NewRecord returns an empty record of a collection, nil for one that isn't ours.
func NewRecord(nsid string) Record {
	switch nsid {
	case NSIDManifest:
		return &Manifest{}
	case NSIDTag:
		return &Tag{}
	case NSIDRepoPage:
		return &RepoPage{}
	case NSIDProfile:
		return &SailorProfile{}
	case NSIDStar:
		return &Star{}
	case NSIDCaptain:
		return &Captain{}
	case NSIDCrew:
		return &Crew{}
	case NSIDLayer:
		return &Layer{}
	case NSIDStats:
		return &Stats{}
	case NSIDScan:
		return &Scan{}
	}
	return nil
}

// Extra holds the fields of a record or object that this package doesn't know, so that they survive a change. A known
// field's key in it is ignored.
type Extra map[string]json.RawMessage

// Datetime is a date and time as records have it, kept as it was read (https://atproto.com/specs/lexicon, "datetime").
type Datetime string

// NewDatetime writes t in UTC to the millisecond.
func NewDatetime(t time.Time) Datetime {
	return Datetime(t.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// Time reads it; the zero time when it is empty or malformed.
func (d Datetime) Time() time.Time {
	t, err := time.Parse(time.RFC3339Nano, string(d))
	if err != nil {
		return time.Time{}
	}
	return t
}

// decode reads a JSON object into the fields of the struct that dst points to, by their exact names (encoding/json would take any
// capitals), and returns the others. nsid, when not empty, is what $type must be if it is there.
func decode(data []byte, nsid string, dst any) (Extra, error) {
	var members Extra
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if members == nil {
		return nil, fmt.Errorf("%w: it is null", ErrRecord)
	}
	if raw, ok := members["$type"]; ok && nsid != "" {
		var typ string
		if err := json.Unmarshal(raw, &typ); err != nil || typ != nsid {
			return nil, fmt.Errorf("%w: $type is %s, not %q", ErrRecord, clip(string(raw)), nsid)
		}
		delete(members, "$type")
	}
	v := reflect.ValueOf(dst).Elem()
	for i := range v.NumField() {
		name, _ := fieldName(v.Type().Field(i))
		raw, ok := members[name]
		if name == "" || !ok {
			continue
		}
		delete(members, name)
		if string(raw) == "null" {
			continue
		}
		if err := json.Unmarshal(raw, v.Field(i).Addr().Interface()); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrRecord, name, err)
		}
	}
	if len(members) == 0 {
		members = nil
	}
	return members, nil
}

// encode writes $type when it isn't empty, the fields of the struct that src points to, and the extra ones.
func encode(nsid string, src any, extra Extra) ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	member := func(name string, raw []byte) {
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		key, _ := json.Marshal(name)
		out.Write(key)
		out.WriteByte(':')
		out.Write(raw)
	}
	known := map[string]bool{}
	if nsid != "" {
		member("$type", []byte(strconv.Quote(nsid)))
		known["$type"] = true
	}
	v := reflect.ValueOf(src).Elem()
	for i := range v.NumField() {
		name, optional := fieldName(v.Type().Field(i))
		if name == "" {
			continue
		}
		known[name] = true
		if optional && empty(v.Field(i)) {
			continue
		}
		raw, err := marshalField(v.Field(i))
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrRecord, name, err)
		}
		member(name, raw)
	}
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		if !known[name] {
			member(name, extra[name])
		}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// marshalField is json.Marshal without its look at what our own types write, which would come once on each level.
func marshalField(v reflect.Value) ([]byte, error) {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if m, ok := v.Addr().Interface().(json.Marshaler); ok {
		return m.MarshalJSON()
	}
	if v.Kind() != reflect.Slice || v.Len() == 0 || !v.Type().Elem().Implements(marshaler) {
		return json.Marshal(v.Addr().Interface())
	}
	out := []byte{'['}
	for i := range v.Len() {
		if i > 0 {
			out = append(out, ',')
		}
		raw, err := marshalField(v.Index(i))
		if err != nil {
			return nil, err
		}
		out = append(out, raw...)
	}
	return append(out, ']'), nil
}

var marshaler = reflect.TypeFor[json.Marshaler]()

// fieldName returns the JSON name of a struct field, empty when it has none, and whether it may be left out.
func fieldName(f reflect.StructField) (name string, optional bool) {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" {
		return "", false
	}
	return name, options == "omitempty"
}

func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	default:
		return v.IsZero()
	}
}

// check applies what the fields themselves say: a string or list without omitempty is required, and the tag max limits
// the bytes of a string.
func check(nsid string, src any) error {
	v := reflect.ValueOf(src).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, optional := fieldName(f)
		if name == "" || v.Field(i).Kind() != reflect.String {
			continue
		}
		length := v.Field(i).Len()
		if length == 0 && !optional {
			return fmt.Errorf("%w %s: %s is missing", ErrRecord, nsid, name)
		}
		if limit, err := strconv.Atoi(f.Tag.Get("max")); err == nil && length > limit {
			return fmt.Errorf("%w %s: %s has %d bytes, the limit is %d", ErrRecord, nsid, name, length, limit)
		}
		if d, ok := v.Field(i).Interface().(Datetime); ok && length > 0 && d.Time().IsZero() {
			return fmt.Errorf("%w %s: %s is no date and time", ErrRecord, nsid, name)
		}
	}
	return nil
}
