package repo

import (
	"bytes"
	"testing"
)

var transcodable = []string{
	`{}`,
	`{"$type":"io.atcr.tag","repository":"app","tag":"v1","n":0,"m":-1,"big":123456789012345,"ok":true,"no":false,"nil":null}`,
	` { "b" : [ ] , "aa" : [1, [2,"x"], {"z":1,"y":{"x":"w"}}], "a" : "\u0026 \"q\" \ud83d\ude00 ü" } `,
	`{"$type":"io.atcr.manifest","manifestBlob":{"$type":"blob","ref":{"$link":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},"mimeType":"a/b","size":12},"link":{"$link":"bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}}`,
}

var notTranscodable = []string{
	``, `null`, `[]`, `"x"`, `1`, `{`, `{}x`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":1 "b":2}`, `{"a":01}`, `{"a":-}`, `{"a":-0}`, `{"a":1.0}`, `{"a":1.5}`, `{"a":1e3}`,
	`{"a":1234567890123456}`, `{"a":1,"a":2}`, `{"a":tru}`, `{"a":[1,]}`, `{"a":[1`, `{"a":"x`, "{\"a\":\"\x01\"}", "{\"a\":\"\xff\"}", `{"a":"\x"}`,
	`{"$bytes":"AAAA"}`, `{"a":{"$bytes":"AAAA"}}`, `{"$link":"bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}`, `{"a":{"$link":1}}`, `{"a":{"$link":"x"}}`,
	`{"a":{"$link":"bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku","b":1}}`, `{"a":{"$link":"QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR"}}`,
	`{"$type":""}`, `{"$type":1}`, `{"a":{"$type":"blob"}}`, `{"a":{"$type":"blob","ref":"x","mimeType":"a/b","size":12}}`,
	`{"a":{"cid":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku","mimeType":"a/b"}}`,
	`{"a":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}`,
}

func TestTranscode(t *testing.T) {
	t.Parallel()
	for _, s := range transcodable {
		got, ok := transcode([]byte(s))
		want, err := generalFromJSON([]byte(s))
		if !ok || err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\n%x\nwant (%v)\n%x", s, ok, got, err, want)
		}
		if _, err := checkRecord(got); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range notTranscodable {
		if got, ok := transcode([]byte(s)); ok {
			t.Errorf("%s: %x", s, got)
		}
	}
}

// What the short way takes, the general way takes, with the same outcome.
func FuzzTranscode(f *testing.F) {
	for _, s := range append(transcodable, notTranscodable...) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := transcode(data)
		if !ok {
			return
		}
		want, err := generalFromJSON(data)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%q: %x\nwant (%v) %x", data, got, err, want)
		}
	})
}

func BenchmarkRecordFromJSON(b *testing.B) {
	data := []byte(transcodable[3])
	b.Run("short", func(b *testing.B) {
		for b.Loop() {
			transcode(data)
		}
	})
	b.Run("general", func(b *testing.B) {
		for b.Loop() {
			if _, err := generalFromJSON(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
