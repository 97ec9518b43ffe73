package pds

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/registry"
)

// FuzzPage reads a page as it may come from any server: what is read is what encoding/json reads of it, and nothing else passes.
func FuzzPage(f *testing.F) {
	for _, seed := range []string{
		`{"cursor":"x","records":[{"uri":"at://a/b/c","cid":"d","value":{"a":[1,{}]}}]}`, `{"records":[],"cursor":"x"}`, `{"records":null}`,
		`{}`, `[]`, `null`, `{"records":{}}`, `{"records":[1]}`, `{"records":[{}],"records":[{}]}`, `{"cursor":1}`, `{"x":[[[]]],"cursor":"y"}`,
		`{"records":[{}]`, `{"records":[{}]} x`, ` `, `{"cursor":null,"records":[{"value":null}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		answer, err := httpx.Spool(&http.Response{Body: io.NopCloser(bytes.NewReader(raw)), ContentLength: -1}, maxPageAnswer)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Close()
		var got []record
		next, err := page{answer, "http://pds.test", pageSize}.records("now", func(r record) error {
			got = append(got, r)
			return nil
		})
		if err != nil {
			if !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("%v", err)
			}
			return
		}
		var fields map[string]json.RawMessage // names as they are written, which a struct would take in any case
		if json.NewDecoder(bytes.NewReader(raw)).Decode(&fields) != nil {
			t.Fatalf("%q is no page, and was read as %d records", raw, len(got))
		}
		var want struct {
			Cursor  string
			Records []record
		}
		_ = json.Unmarshal(fields["cursor"], &want.Cursor) // of fields that stand twice the last is here, and all were read
		_ = json.Unmarshal(fields["records"], &want.Records)
		if len(got) < len(want.Records) { // a list that stands twice is read twice
			t.Errorf("%d records of %d", len(got), len(want.Records))
		}
		if len(got) == len(want.Records) {
			for i := range got {
				if got[i].URI != want.Records[i].URI || got[i].CID != want.Records[i].CID ||
					!bytes.Equal(got[i].Value, want.Records[i].Value) {
					t.Errorf("record %d: %+v, want %+v", i, got[i], want.Records[i])
				}
			}
		}
		if next != "" && next != want.Cursor {
			t.Errorf("cursor %q, want %q", next, want.Cursor)
		}
	})
}

// An error of the one who takes records is given as it is; a record that is larger than any is the page's error.
func TestPageErrors(t *testing.T) {
	t.Parallel()
	read := func(raw []byte, each func(record) error) error {
		answer, err := httpx.Spool(&http.Response{Body: io.NopCloser(bytes.NewReader(raw)), ContentLength: -1}, maxPageAnswer)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Close()
		_, err = page{answer, "http://pds.test", 2}.records("", each)
		return err
	}
	mine := errors.New("mine")
	if err := read([]byte(`{"records":[{}]}`), func(record) error { return mine }); !errors.Is(err, mine) || errors.Is(err, registry.ErrUnavailable) {
		t.Error(err)
	}
	ok := func(record) error { return nil }
	if err := read([]byte(`{"records":[{},{},{}]}`), ok); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("more than were asked for: %v", err)
	}
	large := append(append([]byte(`{"records":[{"value":"`), bytes.Repeat([]byte("x"), maxRecord+1)...), `"}]}`...)
	if err := read(large, ok); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("a large record: %v", err)
	}
	several := []byte(`{"records":[{"value":"` + string(bytes.Repeat([]byte("x"), maxRecord/2)) + `"},{"value":"` +
		string(bytes.Repeat([]byte("x"), maxRecord/2)) + `"}]}`)
	if err := read(several, ok); err != nil {
		t.Errorf("two of half the size: %v", err)
	}
}
