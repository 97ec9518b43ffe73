package repo

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"
)

// TestRecordCanonical: what is not canonical DAG-CBOR is refused.
func TestRecordCanonical(t *testing.T) {
	t.Parallel()
	link := "d82a58250001711220" + "0000000000000000000000000000000000000000000000000000000000000000"
	for name, c := range map[string]struct {
		hex string
		ok  bool
	}{
		"empty map":         {"a0", true},
		"numbers":           {"a16161" + "83001864" + "3903e7", true},
		"link":              {"a16161" + link, true},
		"keys by length":    {"a2" + "6162f5" + "626161f6", true},
		"keys unsorted":     {"a2" + "626161f6" + "6162f5", false},
		"keys twice":        {"a2" + "6161f5" + "6161f5", false},
		"key not text":      {"a101f5", false},
		"long head":         {"a16161" + "1801", false},
		"long text head":    {"a1780161" + "00", false},
		"indefinite":        {"bfff", false},
		"indefinite array":  {"a16161" + "9fff", false},
		"float":             {"a16161" + "f93c00", false},
		"double":            {"a16161" + "fb3ff0000000000000", false},
		"undefined":         {"a16161" + "f7", false},
		"other tag":         {"a16161" + "c100", false},
		"link of nothing":   {"a16161" + "d82a40", false},
		"link without zero": {"a16161" + "d82a45" + "0171122000", false},
		"not UTF-8":         {"a16161" + "61ff", false},
		"trailing":          {"a000", false},
		"array":             {"80", false},
		"cut":               {"a1", false},
		"huge length":       {"a16161" + "5b7fffffffffffffff", false},
		"huge array":        {"a16161" + "9b7fffffffffffffff", false},
		"over int64":        {"a16161" + "1b8000000000000000", false},
		"nothing":           {"", false},
		"deep":              {"a16161" + hex.EncodeToString(bytes.Repeat([]byte{0x81}, 100)) + "00", false},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := checkRecord(b); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalidRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLaxMaps: a map of indefinite length is read as one whose length is known: no key twice, and its blobs count.
func TestLaxMaps(t *testing.T) {
	t.Parallel()
	id := BlobCID([]byte("a blob"))
	blob := appendText(appendText(nil, "$type"), "blob")
	blob = appendLink(appendText(blob, "ref"), id)
	blob = appendText(appendText(blob, "mimeType"), "text/plain")
	blob = appendHead(appendText(blob, "size"), majorUint, 6)
	lax := func(parts ...[]byte) ([]blobRef, error) {
		refs, odd, err := checkLax(slices.Concat(parts...))
		if err == nil && odd == nil {
			t.Errorf("%x: nothing is odd", parts)
		}
		return refs, err
	}
	twice := []byte{0x61, 'a', 0xf5, 0x61, 'a', 0xf6}
	for _, c := range []struct{ head, end []byte }{{[]byte{0xbf}, []byte{0xff}}, {[]byte{0xb8, 2}, nil}} {
		if _, err := lax(c.head, twice, c.end); !errors.Is(err, ErrInvalidRecord) {
			t.Errorf("%x, a key twice: %v", c.head, err)
		}
	}
	for _, c := range []struct{ head, end []byte }{{[]byte{0xbf}, []byte{0xff}}, {[]byte{0xb8, 4}, nil}} {
		refs, err := lax([]byte{0xa1, 0x61, 'b'}, c.head, blob, c.end)
		if want := (blobRef{id, "text/plain", 6}); err != nil || !slices.Equal(refs, []blobRef{want}) {
			t.Errorf("%x, a blob: %v, %v", c.head, refs, err)
		}
	}
	long := append(appendText([]byte{0xbf}, "$type"), "\x78\x04blob"...)
	if refs, err := lax(long, appendLink(appendText(nil, "ref"), id), []byte{0xff}); err != nil || len(refs) != 1 || refs[0].cid != id {
		t.Errorf("a type with a long head: %v, %v", refs, err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte{0xa0})
	v, _ := RecordFromJSON([]byte(`{"$type":"a.b.c","n":-5,"l":[{"$link":"bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454"}],"x":{"$bytes":"AAE"}}`))
	f.Add(v)
	f.Fuzz(func(t *testing.T, b []byte) {
		strict, err := checkRecord(b)
		lax, odd, lerr := checkLax(b)
		if err != nil {
			return
		}
		if lerr != nil || len(lax) != len(strict) {
			t.Fatalf("%x is canonical, and read by the lax reader: %v, %v", b, odd, lerr)
		}
		j, err := RecordToJSON(b)
		if err != nil {
			return // stricter than we: odd $type, unsafe lengths
		}
		if back, err := RecordFromJSON(j); err == nil && !bytes.Equal(b, back) && !lossy(j) {
			t.Fatalf("%x became %x through %s", b, back, j)
		}
	})
}

// lossy: numbers beyond 2^53 don't survive indigo's JSON, nor do maps that look like links, bytes or blobs of old.
func lossy(j []byte) bool {
	for _, s := range []string{"$", "cid", "0000000000", "99999"} {
		if bytes.Contains(j, []byte(s)) {
			return true
		}
	}
	return longNumber(j)
}

func longNumber(j []byte) bool {
	run := 0
	for _, c := range j {
		if c >= '0' && c <= '9' {
			if run++; run > 15 {
				return true
			}
		} else {
			run = 0
		}
	}
	return false
}

func FuzzDecodeNode(f *testing.F) {
	v := RecordCID([]byte("v"))
	f.Add(encodeNode(nil, nil, []CID{{}}))
	f.Add(encodeNode([]string{"a.b.c/one", "a.b.c/two"}, []CID{v, v}, []CID{v, {}, v}))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeNode(b)
		if err != nil {
			return
		}
		if again := encodeNode(n.keys, n.vals, n.kids); !bytes.Equal(again, b) {
			t.Fatalf("decoded but not canonical: %x, %x", b, again)
		}
	})
}

func FuzzDecodeCommit(f *testing.F) {
	c := commitBlock{did: "did:web:a.example", rev: 1 << 60, data: RecordCID(nil), sig: make([]byte, 64)}
	f.Add(c.encode(true))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decodeCommit(b); err == nil && !bytes.Equal(c.encode(true), b) {
			t.Fatalf("decoded but not canonical: %x", b)
		}
	})
}

func FuzzReadCAR(f *testing.F) {
	f.Add(appendCARBlock(appendCARHeader(nil, RecordCID(nil)), RecordCID(nil), nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, blocks, err := readCAR(b)
		for c, block := range blocks {
			if err == nil && !c.IsBlob() && RecordCID(block) != c {
				t.Fatal("a block does not match its CID")
			}
		}
	})
}

func TestNodeRefuses(t *testing.T) {
	t.Parallel()
	v := RecordCID([]byte("v"))
	flat := func(keys ...string) []byte { return encodeNode(keys, make([]CID, len(keys)), make([]CID, len(keys)+1)) }
	one := encodeNode([]string{"a.b.c/1"}, []CID{v}, make([]CID, 2))
	for name, b := range map[string][]byte{
		"no value":     flat("a.b.c/1"),
		"trailing":     append(bytes.Clone(one), 0),
		"cut":          one[:len(one)-1],
		"prefix of 5":  bytes.Replace(one, []byte{0x61, 'p', 0}, []byte{0x61, 'p', 5}, 1),
		"prefix of -1": bytes.Replace(one, []byte{0x61, 'p', 0}, []byte{0x61, 'p', 0x20}, 1),
		"key order":    encodeNode([]string{"a.b.c/2", "a.b.c/1"}, []CID{v, v}, make([]CID, 3)),
		"key twice":    encodeNode([]string{"a.b.c/1", "a.b.c/1"}, []CID{v, v}, make([]CID, 3)),
		"array":        {0x80},
	} {
		if n, err := decodeNode(b); err == nil {
			t.Errorf("%s: %+v", name, n)
		}
	}
	if _, err := decodeNode(one); err != nil {
		t.Fatal(err)
	}
}

func TestTID(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	a := nextTID(now, 0)
	b := nextTID(now.Add(-2*time.Minute), a) // the clock went back
	if b <= a || b.String() <= a.String() || len(a.String()) != 13 {
		t.Fatalf("%s then %s", a, b)
	}
	if back, err := ParseTID(a.String()); err != nil || back != a || !a.Time().Equal(now) {
		t.Fatalf("%v, %v, %v", back, err, a.Time())
	}
	for _, bad := range []string{"", "222222222222", "zzzzzzzzzzzzz", "2222222222221"} {
		if _, err := ParseTID(bad); err == nil {
			t.Errorf("%q is a TID", bad)
		}
	}
}

func TestParseCID(t *testing.T) {
	t.Parallel()
	for _, c := range []CID{RecordCID([]byte("x")), BlobCID([]byte("x"))} {
		back, err := ParseCID(c.String())
		if err != nil || back != c {
			t.Errorf("%s: %v", c, err)
		}
	}
	for _, bad := range []string{"", "b", "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKFa5N",
		"BAFYREIE5CVV4H45FEADGEUWHBCUTMH6T2CESEOCCKAHDOE6UAT64ZMZ454"} {
		if c, err := ParseCID(bad); err == nil {
			t.Errorf("%q is %s", bad, c)
		}
	}
}
