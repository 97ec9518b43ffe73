package blobhttp

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// MaxRanges is how many ranges one request may ask for.
const MaxRanges = 32

// span is a part of a blob: length bytes from start.
type span struct{ start, length int64 }

func (s span) contentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.start, s.start+s.length-1, size)
}

// wantedRanges reads Range and If-Range. No span means the whole. Errors: ErrRange.
func wantedRanges(r *http.Request, etag string, size int64) ([]span, error) {
	header := r.Header.Get("Range")
	if header == "" {
		return nil, nil
	}
	// A time in If-Range is never taken for a match: digests are the better validator.
	if ifRange := r.Header.Get("If-Range"); ifRange != "" && ifRange != etag {
		return nil, nil
	}
	spans, err := parseRange(header, size)
	if err != nil {
		return nil, err
	}
	var sum int64
	for _, s := range spans {
		sum += s.length
	}
	if sum > size {
		return nil, nil // overlapping ranges that would cost more than the whole (RFC 9110 §14.2)
	}
	return spans, nil
}

// parseRange reads a Range header (RFC 9110 §14.1.2) against a size. Ranges that begin beyond the end are left out; when
// none is left, and when the header is malformed, the error is ErrRange.
func parseRange(header string, size int64) ([]span, error) {
	list, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return nil, fmt.Errorf("%w: write bytes=FIRST-LAST", ErrRange)
	}
	if strings.Count(list, ",") >= MaxRanges {
		return nil, fmt.Errorf("%w: more than %d ranges", ErrRange, MaxRanges)
	}
	var spans []span
	for item := range strings.SplitSeq(list, ",") {
		item = strings.Trim(item, " \t")
		if item == "" {
			continue
		}
		first, last, ok := strings.Cut(item, "-")
		if !ok {
			return nil, fmt.Errorf("%w: a range has no '-'", ErrRange)
		}
		s, err := resolve(strings.Trim(first, " \t"), strings.Trim(last, " \t"), size)
		if err != nil {
			return nil, err
		}
		if s.length > 0 {
			spans = append(spans, s)
		}
	}
	if len(spans) == 0 {
		return nil, fmt.Errorf("%w: the blob has %d bytes", ErrRange, size)
	}
	return spans, nil
}

// resolve returns a span of length 0 for a range beyond the end.
func resolve(first, last string, size int64) (span, error) {
	if first == "" {
		n, err := number(last)
		if err != nil {
			return span{}, err
		}
		if n == 0 {
			return span{}, fmt.Errorf("%w: a suffix of no bytes", ErrRange)
		}
		n = min(n, size)
		return span{size - n, n}, nil
	}
	start, err := number(first)
	if err != nil {
		return span{}, err
	}
	end := size - 1
	if last != "" {
		if end, err = number(last); err != nil {
			return span{}, err
		}
		if end < start {
			return span{}, fmt.Errorf("%w: a range ends before it begins", ErrRange)
		}
		end = min(end, size-1)
	}
	if start >= size {
		return span{}, nil
	}
	return span{start, end - start + 1}, nil
}

// number reads digits only; ParseInt alone would take a sign.
func number(s string) (int64, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("%w: %.20q is not a position", ErrRange, s)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %.20q is too large", ErrRange, s)
	}
	return n, nil
}
