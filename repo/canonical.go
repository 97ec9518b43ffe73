package repo

import "fmt"

// blobRef is a blob as a record names it.
type blobRef struct {
	cid       CID
	mediaType string
	size      int64
}

// checkRecord makes sure that value is canonical DAG-CBOR with a map at its top, and collects the blobs it names.
func checkRecord(value []byte) ([]blobRef, error) {
	if len(value) > MaxRecordSize {
		return nil, fmt.Errorf("%w: the record has %d bytes, at most %d are taken", ErrTooLarge, len(value), MaxRecordSize)
	}
	switch {
	case len(value) == 0:
		return nil, fmt.Errorf("%w: Record is empty", ErrInvalidRecord)
	case value[0] == '{':
		return nil, fmt.Errorf("%w: Record looks like JSON: want DAG-CBOR, which RecordFromJSON makes of it", ErrInvalidRecord)
	}
	w := recordWalker{r: cborReader{b: value}}
	if err := w.record(); err != nil {
		return nil, err
	}
	return w.blobs, nil
}

// checkLax is for a record that checkRecord refused. One that is CBOR with a map at its top, and only not canonical (floats, keys out of
// order, long heads, indefinite lengths, other tags), is let pass: odd says how. Others' servers have written such records, and
// hashes and signature hold all the same.
func checkLax(value []byte) (named []blobRef, odd, err error) {
	w := recordWalker{r: cborReader{b: value, lax: true}}
	if err := w.record(); err != nil {
		return nil, nil, err
	}
	return w.blobs, fmt.Errorf("%w: not canonical DAG-CBOR: %w", ErrInvalidRecord, w.r.odd), nil
}

type recordWalker struct {
	r     cborReader
	blobs []blobRef
}

func (w *recordWalker) record() error {
	if b := w.r.peek(); w.r.err == nil && b>>5 != majorMap {
		w.r.fail("a record is a map")
	}
	w.value(0)
	if err := w.r.end(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	return nil
}

func (w *recordWalker) value(depth int) {
	if depth > maxDepth {
		w.r.fail("nested deeper than %d", maxDepth)
	}
	b := w.r.peek()
	if w.r.lax && w.odd(b, depth) {
		return
	}
	switch b >> 5 {
	case majorUint, majorNeg:
		if _, n := w.r.head(); w.r.err == nil && n > 1<<63-1 {
			w.r.notCanonical("a number does not fit 64 bits with sign")
		}
	case majorBytes:
		w.r.bytes()
	case majorText:
		w.r.text()
	case majorArray:
		for n := w.r.expect(majorArray, "array"); n > 0 && w.r.err == nil; n-- {
			w.value(depth + 1)
		}
	case majorMap:
		w.object(depth)
	case majorTag:
		w.r.rawLink()
	default:
		if b != cborFalse && b != cborTrue && b != cborNull {
			w.r.fail("floats and other simple values are not allowed")
		}
		w.r.off++
	}
}

// odd takes a value of a form that only a lax reader knows.
func (w *recordWalker) odd(first byte, depth int) bool {
	major, info := first>>5, first&31
	switch {
	case w.r.err != nil:
		return true
	case info == 31 && majorBytes <= major && major <= majorMap:
		w.r.notCanonical("indefinite length")
		w.indefinite(major, depth)
	case major == majorTag && first != 0xd8 || major == majorTag && w.r.off+1 < len(w.r.b) && w.r.b[w.r.off+1] != 42:
		_, tag := w.r.head()
		w.r.notCanonical("tag %d is not allowed", tag)
		w.value(depth + 1)
	case major == majorOther && info < 28 && first != cborFalse && first != cborTrue && first != cborNull:
		w.r.notCanonical("floats and other simple values are not allowed")
		w.r.head()
	default:
		return false
	}
	return true
}

// indefinite takes what follows up to its end mark: of text and bytes pieces of a known length.
func (w *recordWalker) indefinite(major byte, depth int) {
	const end = 0xff
	w.r.off++
	m := w.fields()
	defer w.name(&m)
	for w.r.err == nil {
		switch b := w.r.peek(); {
		case w.r.err != nil:
			return
		case b == end:
			w.r.off++
			return
		case major == majorText:
			w.r.text()
		case major == majorBytes:
			w.r.bytes()
		case major == majorMap:
			w.field(&m, depth)
		default:
			w.value(depth + 1)
		}
	}
}

func (w *recordWalker) object(depth int) {
	m := w.fields()
	for n := w.r.expect(majorMap, "map"); n > 0 && w.r.err == nil; n-- {
		w.field(&m, depth)
	}
	w.name(&m)
}

// fields is what is known of a map after some of its fields.
type fields struct {
	some       bool
	prev, kind string
	ref        blobRef
	seen       map[string]bool // of a lax reader
}

func (w *recordWalker) fields() (m fields) {
	if w.r.lax {
		m.seen = map[string]bool{}
	}
	return m
}

// field takes a key of a map and its value.
func (w *recordWalker) field(m *fields, depth int) {
	key := w.r.text()
	if m.some && w.r.err == nil && !keyLess(m.prev, key) {
		w.r.notCanonical("map keys are not sorted and unique: %q after %q", clip(key), clip(m.prev))
	}
	if m.seen[key] {
		w.r.fail("the map key %q comes twice, so readers differ in what it says", clip(key))
	} else if m.seen != nil {
		m.seen[key] = true
	}
	m.some, m.prev = true, key
	start := w.r.off
	w.value(depth + 1)
	if w.r.err != nil {
		return
	}
	v := cborReader{b: w.r.b[start:w.r.off], lax: w.r.lax}
	switch key {
	case "$type":
		m.kind = v.text()
	case "ref":
		m.ref.cid = v.link()
	case "mimeType":
		m.ref.mediaType = v.text()
	case "size":
		if major, n := v.head(); major == majorUint {
			m.ref.size = int64(n)
		}
	}
}

// name notes the blob that a map names, if it does.
func (w *recordWalker) name(m *fields) {
	if m.kind == "blob" && m.ref.cid.Defined() && w.r.err == nil {
		w.blobs = append(w.blobs, m.ref)
	}
}

// keyLess is DAG-CBOR's order of map keys: shorter ones first, then by bytes.
func keyLess(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}
