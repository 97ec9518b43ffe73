package blobhttp

import (
	"errors"
	"fmt"
)

// Kinds of errors; test with [errors.Is].
var (
	// ErrRange: a Range header in bytes that is malformed, asks for too many ranges, or only for bytes that are not there.
	// Content-Range ("bytes */SIZE") is set in the response. HTTP 416.
	ErrRange = errors.New("range not satisfiable")
	// ErrPrecondition: If-Match names another digest. HTTP 412.
	ErrPrecondition = errors.New("precondition failed")
	// ErrContentRange: a Content-Range header that is malformed or contradicts Content-Length. HTTP 400.
	ErrContentRange = errors.New("invalid Content-Range")
	// ErrOffset: a piece that does not begin where the upload ends; an [*OffsetError]. HTTP 416.
	ErrOffset = errors.New("piece does not begin where the upload ends")
	// ErrTooLarge: the upload would pass its limit. HTTP 413.
	ErrTooLarge = errors.New("too large")
	// ErrShortBody: the body ended before Content-Length; what came is kept. HTTP 400.
	ErrShortBody = errors.New("body is shorter than Content-Length")
	// ErrBody: the body could not be read, as one of malformed chunks; what came is kept. HTTP 400.
	ErrBody = errors.New("body can't be read")
	// ErrSlowBody: the body came slower than allowed; what came is kept. HTTP 408.
	ErrSlowBody = errors.New("body came too slowly")
	// ErrAborted: the answer was cut after its header went out, since its bytes did not come. There is nothing left to tell the client: log
	// it.
	ErrAborted = errors.New("answer aborted")
	// ErrNotRead is ErrAborted because the client did not take the bytes, or has gone. That is no fault of ours.
	ErrNotRead = fmt.Errorf("%w by its reader", ErrAborted)
)

// OffsetError says where a piece began and where it should have. It is [ErrOffset].
type OffsetError struct {
	Start int64 // first byte of the piece
	Size  int64 // bytes that are there
}

func (e *OffsetError) Error() string {
	return fmt.Sprintf("Content-Range begins at %d; the upload has %d bytes, go on from there", e.Start, e.Size)
}

// Is makes errors.Is(err, ErrOffset) hold.
func (e *OffsetError) Is(target error) bool { return target == ErrOffset }
