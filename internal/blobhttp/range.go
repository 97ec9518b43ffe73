package blobhttp

import (
	"fmt"
	"math"
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

// parseRange reads a Range header (RFC 9110 §14.1) against a size. No span and no error say that it is to be ignored: it is of another
// unit, or for the bytes of an empty blob from its start or to its end. Ranges that begin beyond the end are left out; when none is left,
// and when the header is malformed, the error is ErrRange.
func parseRange(header string, size int64) ([]span, error) {
	unit, list, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return nil, nil // "MUST ignore a Range header field that contains a range unit it does not understand" (§14.2)
	}
	if strings.Count(list, ",") >= MaxRanges {
		return nil, fmt.Errorf("%w: more than %d ranges", ErrRange, MaxRanges)
	}
	var spans []span
	nothing := false // a range of an empty blob
	for item := range strings.SplitSeq(list, ",") {
		item = strings.Trim(item, " \t")
		if item == "" {
			continue
		}
		first, last, ok := strings.Cut(item, "-")
		if !ok {
			return nil, fmt.Errorf("%w: a range has no '-'", ErrRange)
		}
		s, err := resolve(first, last, size)
		switch {
		case err != nil:
			return nil, err
		case s.length > 0:
			spans = append(spans, s)
		case s.length == 0 && size == 0:
			nothing = true
		}
	}
	if len(spans) == 0 && !nothing {
		return nil, fmt.Errorf("%w: the blob has %d bytes", ErrRange, size)
	}
	return spans, nil
}

// resolve returns a span of length -1 for a range that can't be satisfied: beyond the end, or a suffix of no bytes.
func resolve(first, last string, size int64) (span, error) {
	none := span{0, -1}
	if first == "" {
		n, err := number(last)
		if err != nil || n == 0 {
			return none, err
		}
		n = min(n, size)
		return span{size - n, n}, nil
	}
	start, err := number(first)
	if err != nil {
		return none, err
	}
	end := size - 1
	if last != "" {
		to, err := number(last)
		if err != nil {
			return none, err
		}
		if to < start {
			return none, fmt.Errorf("%w: a range ends before it begins", ErrRange)
		}
		end = min(to, end)
	}
	if start >= size && start > 0 {
		return none, nil
	}
	return span{start, end - start + 1}, nil
}

// number reads digits only; ParseInt alone would take a sign. One that no blob is long enough for is the largest.
func number(s string) (int64, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("%w: %.20q is not a position", ErrRange, s)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return math.MaxInt64, nil
	}
	return n, nil
}

// asServed is the request with the ranges that were resolved, in the one spelling that net/http reads.
func asServed(r *http.Request, spans []span) *http.Request {
	if r.Header["Range"] == nil {
		return r
	}
	c := *r
	c.Header = r.Header.Clone()
	delete(c.Header, "Range")
	delete(c.Header, "If-Range") // was looked at
	if len(spans) > 0 {
		list := make([]string, len(spans))
		for i, s := range spans {
			list[i] = fmt.Sprintf("%d-%d", s.start, s.start+s.length-1)
		}
		c.Header["Range"] = []string{"bytes=" + strings.Join(list, ",")}
	}
	return &c
}
