package repo

import (
	"encoding/json"
	"slices"
	"unicode/utf8"
)

// transcode turns the JSON of a record into DAG-CBOR in one pass, for what nearly all records are made of: strings,
// integers, booleans, nulls, links to our kinds of CID, blobs, lists and objects of them. Everything else, and everything that
// is wrong, is answered with false: then the general way decides. It exists because each push encodes two records, and the
// general way builds two trees of maps for each.
func transcode(data []byte) ([]byte, bool) {
	if len(data) > maxTranscode {
		return nil, false
	}
	t := transcoder{in: data}
	t.space()
	if t.peek() != '{' {
		return nil, false
	}
	out := t.object(make([]byte, 0, len(data)), 0)
	t.space()
	if t.odd || t.off != len(data) || out[0]>>5 != majorMap { // a record is no link
		return nil, false
	}
	return out, true
}

const (
	maxTranscode      = 256 << 10
	maxTranscodeKey   = 256
	maxTranscodeDepth = 16
	maxTranscodeItems = 4096
	maxTranscodeDigit = 15 // digits that a JSON number is exact with
)

type transcoder struct {
	in  []byte
	off int
	odd bool // not for us
}

func (t *transcoder) space() {
	for t.off < len(t.in) && (t.in[t.off] == ' ' || t.in[t.off] == '\n' || t.in[t.off] == '\t' || t.in[t.off] == '\r') {
		t.off++
	}
}

func (t *transcoder) peek() byte {
	if t.off < len(t.in) {
		return t.in[t.off]
	}
	return 0
}

// eat takes a byte if it comes next.
func (t *transcoder) eat(b byte) bool {
	t.space()
	if t.peek() != b {
		return false
	}
	t.off++
	return true
}

func (t *transcoder) value(dst []byte, depth int) []byte {
	if depth > maxTranscodeDepth || t.odd {
		t.odd = true
		return dst
	}
	t.space()
	switch c := t.peek(); {
	case c == '"':
		return appendText(dst, t.text())
	case c == '{':
		return t.object(dst, depth)
	case c == '[':
		return t.array(dst, depth)
	case c == '-' || c >= '0' && c <= '9':
		return t.integer(dst)
	}
	for _, w := range jsonWords {
		if len(t.in)-t.off >= len(w.word) && string(t.in[t.off:t.off+len(w.word)]) == w.word {
			t.off += len(w.word)
			return append(dst, w.code)
		}
	}
	t.odd = true
	return dst
}

var jsonWords = [...]struct {
	word string
	code byte
}{{"true", cborTrue}, {"false", cborFalse}, {"null", cborNull}}

func (t *transcoder) text() string {
	start := t.off
	plain := true
	for t.off++; t.off < len(t.in); t.off++ {
		switch c := t.in[t.off]; {
		case c == '"':
			t.off++
			lit := t.in[start:t.off]
			if plain && utf8.Valid(lit) {
				return string(lit[1 : len(lit)-1])
			}
			var s string
			t.odd = t.odd || !utf8.Valid(lit) || json.Unmarshal(lit, &s) != nil
			return s
		case c == '\\':
			plain = false
			t.off++
		case c < 0x20:
			t.odd = true
		}
	}
	t.odd = true
	return ""
}

func (t *transcoder) integer(dst []byte) []byte {
	negative := t.peek() == '-'
	if negative {
		t.off++
	}
	start, n := t.off, uint64(0)
	for ; t.peek() >= '0' && t.peek() <= '9'; t.off++ {
		n = 10*n + uint64(t.peek()-'0')
		if t.off-start >= maxTranscodeDigit {
			t.odd = true
			return dst
		}
	}
	c := t.peek()
	if t.off == start || t.in[start] == '0' && (t.off > start+1 || negative) || c == '.' || c == 'e' || c == 'E' {
		t.odd = true
		return dst
	}
	if negative {
		return appendHead(dst, majorNeg, n-1)
	}
	return appendHead(dst, majorUint, n)
}

func (t *transcoder) array(dst []byte, depth int) []byte {
	t.off++
	at, n := len(dst), 0
	if !t.eat(']') {
		for {
			dst = t.value(dst, depth+1)
			if n++; t.odd || n > maxTranscodeItems {
				t.odd = true
				return dst
			}
			if t.eat(']') {
				break
			}
			if !t.eat(',') {
				t.odd = true
				return dst
			}
		}
	}
	var head [9]byte
	return slices.Insert(dst, at, appendHead(head[:0], majorArray, uint64(n))...)
}

// member is a key of an object, with its value as bytes of what has been written.
type member struct {
	key      string
	from, to int
}

func (t *transcoder) object(dst []byte, depth int) []byte {
	t.off++
	at := len(dst)
	members := make([]member, 0, 16)
	if !t.eat('}') {
		for {
			t.space()
			if t.peek() != '"' {
				t.odd = true
				return dst
			}
			m := member{key: t.text()}
			if len(m.key) > maxTranscodeKey || len(members) >= maxTranscodeItems || !t.eat(':') {
				t.odd = true
				return dst
			}
			m.from = len(dst)
			dst = t.value(dst, depth+1)
			if m.to = len(dst); t.odd {
				return dst
			}
			members = append(members, m)
			if t.eat('}') {
				break
			}
			if !t.eat(',') {
				t.odd = true
				return dst
			}
		}
	}
	slices.SortFunc(members, func(a, b member) int {
		switch {
		case keyLess(a.key, b.key):
			return -1
		case a.key == b.key:
			return 0
		}
		return 1
	})
	return t.finish(dst, at, members)
}

// finish puts the values that were written from at on into order, with their keys; or it makes the link that the object is.
func (t *transcoder) finish(dst []byte, at int, members []member) []byte {
	size := 9
	for i, m := range members {
		if i > 0 && members[i-1].key == m.key {
			t.odd = true
			return dst
		}
		size += 3 + len(m.key) + m.to - m.from
	}
	if !plainObject(dst, members) {
		link := len(members) == 1 && members[0].key == "$link" && dst[members[0].from]>>5 == majorText
		if !link {
			t.odd = true
			return dst
		}
		r := cborReader{b: dst[members[0].from:members[0].to]}
		c, err := ParseCID(r.text())
		t.odd = t.odd || err != nil
		return appendLink(dst[:at], c)
	}
	sorted := appendHead(make([]byte, 0, size), majorMap, uint64(len(members)))
	for _, m := range members {
		sorted = append(appendText(sorted, m.key), dst[m.from:m.to]...)
	}
	return append(dst[:at], sorted...)
}

// plainObject reports whether the data model gives an object no meaning of its own, or that of a well-formed blob.
func plainObject(dst []byte, members []member) bool {
	if len(members) == 2 && members[0].key == "cid" && members[1].key == "mimeType" {
		return false // a blob of old
	}
	blob := false
	for _, m := range members {
		switch m.key {
		case "$link", "$bytes":
			return false
		case "$type":
			r := cborReader{b: dst[m.from:m.to]}
			if r.peek()>>5 != majorText {
				return false
			}
			kind := r.text()
			if kind == "" {
				return false
			}
			blob = kind == "blob"
		}
	}
	if !blob {
		return true
	}
	// In the order of DAG-CBOR.
	if len(members) != 4 || members[0].key != "ref" || members[1].key != "size" || members[2].key != "$type" ||
		members[3].key != "mimeType" {
		return false
	}
	return dst[members[0].from]>>5 == majorTag && dst[members[1].from]>>5 == majorUint && dst[members[3].from]>>5 == majorText
}
