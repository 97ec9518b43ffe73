package blobhttp

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
)

// Upload is what [Append] needs of an upload.
type Upload interface {
	Size() int64  // bytes that are there
	io.ReaderFrom // appends; keeps what came before an error
}

// UploadRange is how much of an upload is there, as the Range header of the distribution specification says it:
// "0-" and the position of the last byte. An empty upload is "0-0", too, as clients expect.
func UploadRange(size int64) string {
	return "0-" + strconv.FormatInt(max(size-1, 0), 10)
}

// contentRangeForm is that of the distribution specification; RFC 9110 §14.4 has a unit before and a size behind.
var contentRangeForm = regexp.MustCompile(`^(?:(?i:bytes) )?([0-9]+)-([0-9]+)(?:/(?:[0-9]+|\*))?$`)

// ParseContentRange reads the Content-Range of a piece: "0-1023", or "bytes 0-1023/*". last is the position of the last
// byte. Errors: ErrContentRange.
func ParseContentRange(header string) (start, last int64, err error) {
	m := contentRangeForm.FindStringSubmatch(header)
	if m == nil {
		return 0, 0, fmt.Errorf("%w %.60q: write FIRST-LAST, both included", ErrContentRange, header)
	}
	start, err1 := strconv.ParseInt(m[1], 10, 64)
	last, err2 := strconv.ParseInt(m[2], 10, 64)
	// The largest number is left out: it has no byte after it.
	if err1 != nil || err2 != nil || last < start || last == 1<<63-1 {
		return 0, 0, fmt.Errorf("%w %.60q: FIRST must not be above LAST", ErrContentRange, header)
	}
	return start, last, nil
}

// Append takes the body of a request to the end of up. Without Content-Range it is what comes next, of any length.
// limit bounds the upload as a whole, in bytes; 0 is none.
//
// Errors: ErrContentRange, ErrOffset and ErrTooLarge (when the length is known) before anything is read; ErrTooLarge,
// ErrShortBody, ErrSlowBody, ErrBody, and what up answered, after up kept what came until then.
func Append(r *http.Request, up Upload, limit int64) error {
	length := r.ContentLength // -1 when unknown
	if header := r.Header.Get("Content-Range"); header != "" {
		start, last, err := ParseContentRange(header)
		if err != nil {
			return err
		}
		if start != up.Size() {
			return &OffsetError{Start: start, Size: up.Size()}
		}
		n := last - start + 1
		if length >= 0 && length != n {
			return fmt.Errorf("%w: it is for %d bytes, Content-Length is %d", ErrContentRange, n, length)
		}
		length = n
	}
	if limit > 0 && length > limit-up.Size() {
		return fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, limit)
	}
	if r.Body == nil || r.Body == http.NoBody {
		if length > 0 {
			return ErrShortBody
		}
		return nil
	}
	return appendBody(r.Body, up, length, limit)
}

func appendBody(body io.Reader, up Upload, length, limit int64) error {
	from := &watched{body: body}
	src := &io.LimitedReader{R: from, N: 1<<63 - 1}
	switch {
	case length >= 0:
		src.N = length
	case limit > 0:
		src.N = limit - up.Size()
	}
	n, err := up.ReadFrom(src)
	var limited *http.MaxBytesError
	switch {
	case errors.As(err, &limited):
		return fmt.Errorf("%w: the server takes bodies of at most %d bytes", ErrTooLarge, limited.Limit)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %d of %d bytes came", ErrShortBody, n, length)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %d bytes came", ErrSlowBody, n)
	case err != nil && from.err != nil && !errors.Is(from.err, io.EOF) && errors.Is(err, from.err):
		return fmt.Errorf("%w: %d bytes came: %w", ErrBody, n, err)
	case err != nil:
		return err
	case length >= 0 && n < length:
		return fmt.Errorf("%w: %d of %d bytes came", ErrShortBody, n, length)
	case src.N > 0:
		return nil
	}
	// The length or the limit is reached: nothing may come after it.
	var one [1]byte
	if extra, _ := io.ReadFull(body, one[:]); extra > 0 {
		if length >= 0 {
			return fmt.Errorf("%w: the body is longer than the range", ErrContentRange)
		}
		return fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, limit)
	}
	return nil
}
