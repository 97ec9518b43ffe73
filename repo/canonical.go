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
	if b := w.r.peek(); w.r.err == nil && b>>5 != majorMap {
		w.r.fail("a record is a map")
	}
	w.value(0)
	if err := w.r.end(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRecord, err)
	}
	return w.blobs, nil
}

type recordWalker struct {
	r     cborReader
	blobs []blobRef
}

func (w *recordWalker) value(depth int) {
	if depth > maxDepth {
		w.r.fail("nested deeper than %d", maxDepth)
	}
	switch b := w.r.peek(); b >> 5 {
	case majorUint, majorNeg:
		if _, n := w.r.head(); w.r.err == nil && n > 1<<63-1 {
			w.r.fail("a number does not fit 64 bits with sign")
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

func (w *recordWalker) object(depth int) {
	n := w.r.expect(majorMap, "map")
	var prev, kind string
	var ref blobRef
	for i := uint64(0); i < n && w.r.err == nil; i++ {
		key := w.r.text()
		if i > 0 && w.r.err == nil && !keyLess(prev, key) {
			w.r.fail("map keys are not sorted and unique: %q after %q", clip(key), clip(prev))
		}
		prev = key
		start := w.r.off
		w.value(depth + 1)
		if w.r.err != nil {
			return
		}
		v := cborReader{b: w.r.b[start:w.r.off]}
		switch key {
		case "$type":
			kind = v.text()
		case "ref":
			ref.cid = v.link()
		case "mimeType":
			ref.mediaType = v.text()
		case "size":
			if m, n := v.head(); m == majorUint {
				ref.size = int64(n)
			}
		}
	}
	if kind == "blob" && ref.cid.Defined() && w.r.err == nil {
		w.blobs = append(w.blobs, ref)
	}
}

// keyLess is DAG-CBOR's order of map keys: shorter ones first, then by bytes.
func keyLess(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}
