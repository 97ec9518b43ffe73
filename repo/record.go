package repo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/bluesky-social/indigo/atproto/atdata"
)

// Record is one record of a repository.
type Record struct {
	Collection string
	RKey       string
	CID        CID
	Rev        string // revision that wrote it; empty when it comes from a proof
	Value      []byte // canonical DAG-CBOR
}

// URI is the at-uri of the record in the given account's repository.
func (r Record) URI(did string) string { return "at://" + did + "/" + r.Collection + "/" + r.RKey }

// Path is collection/rkey.
func (r Record) Path() string { return r.Collection + "/" + r.RKey }

// JSON is the record's value as JSON; see [RecordToJSON].
func (r Record) JSON() ([]byte, error) { return RecordToJSON(r.Value) }

// RecordFromJSON turns a record in its JSON form ($link, $bytes, blobs) into canonical DAG-CBOR, as [Write] takes it.
// Errors: [ErrInvalidRecord] (not an object, floats, malformed links), [ErrTooLarge].
func RecordFromJSON(data []byte) ([]byte, error) {
	if out, ok := transcode(data); ok {
		return out, nil
	}
	return generalFromJSON(data)
}

func generalFromJSON(data []byte) ([]byte, error) {
	if t := bytes.TrimLeft(data, " \t\r\n"); len(t) > 0 && t[0] != '{' {
		return nil, fmt.Errorf("%w: want a JSON object, it begins with %q", ErrInvalidRecord, t[0])
	}
	obj, err := atdata.UnmarshalJSON(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	out, err := atdata.MarshalCBOR(obj)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	if len(out) > MaxRecordSize {
		return nil, fmt.Errorf("%w: the record has %d bytes, at most %d are taken", ErrTooLarge, len(out), MaxRecordSize)
	}
	return out, nil
}

// RecordFrom is [RecordFromJSON] of v's JSON encoding.
func RecordFrom(v any) ([]byte, error) {
	marshal := func() ([]byte, error) { return json.Marshal(v) }
	// json.Marshal would check and compact what it got; that is read anyway.
	if m, ok := v.(json.Marshaler); ok && (reflect.ValueOf(v).Kind() != reflect.Pointer || !reflect.ValueOf(v).IsNil()) {
		marshal = m.MarshalJSON
	}
	data, err := marshal()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	return RecordFromJSON(data)
}

// RecordToJSON turns a record's DAG-CBOR into its JSON form: compact, keys sorted.
// Errors: [ErrInvalidRecord].
func RecordToJSON(value []byte) ([]byte, error) {
	obj, err := atdata.UnmarshalCBOR(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(obj); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}
