package registry

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Error is an error with a code of the OCI distribution specification, "Error Codes". Compare with
// [errors.Is]: two are the same kind when Code and Status agree.
type Error struct {
	Code    string // as on the wire, for example "BLOB_UNKNOWN"
	Status  int    // HTTP status
	Message string // for people: names the field and the remedy
	Detail  any    // goes to the wire as JSON
	// RetryAfter, when not zero, is sent as Retry-After in whole seconds, rounded up.
	RetryAfter time.Duration
	// Challenge, when not empty, is sent as WWW-Authenticate.
	Challenge string
	// Err is the cause. It is logged, never sent.
	Err error
}

// Kinds of errors. Return them as they are, or a copy by [Error.With], [Error.WithDetail], [Error.WithChallenge] or [Error.Wrap].
// They are shared by all requests: never change one in place.
var (
	ErrBlobUnknown   = newKind("BLOB_UNKNOWN", http.StatusNotFound, "blob unknown to repository")
	ErrUploadUnknown = newKind("BLOB_UPLOAD_UNKNOWN", http.StatusNotFound, "upload unknown: start a new one by POST")
	ErrUploadInvalid = newKind("BLOB_UPLOAD_INVALID", http.StatusBadRequest, "upload invalid")
	ErrUploadBusy    = newKind("BLOB_UPLOAD_INVALID", http.StatusConflict, "another request is writing to this upload")
	ErrRangeInvalid  = newKind("BLOB_UPLOAD_INVALID", http.StatusRequestedRangeNotSatisfiable,
		"Content-Range does not begin where the upload ends")
	ErrDigestInvalid       = newKind("DIGEST_INVALID", http.StatusBadRequest, "digest invalid, or not that of the content")
	ErrManifestBlobUnknown = newKind("MANIFEST_BLOB_UNKNOWN", http.StatusNotFound,
		"manifest names a blob or manifest that is not here: push it first")
	ErrManifestInvalid  = newKind("MANIFEST_INVALID", http.StatusBadRequest, "manifest invalid")
	ErrManifestTooLarge = newKind("MANIFEST_INVALID", http.StatusRequestEntityTooLarge, "manifest too large")
	ErrManifestUnknown  = newKind("MANIFEST_UNKNOWN", http.StatusNotFound, "manifest unknown")
	ErrNameInvalid      = newKind("NAME_INVALID", http.StatusBadRequest, "invalid repository name")
	ErrNameUnknown      = newKind("NAME_UNKNOWN", http.StatusNotFound, "repository name not known")
	ErrTagInvalid       = newKind("TAG_INVALID", http.StatusBadRequest, "invalid tag")
	ErrPageInvalid      = newKind("PAGINATION_NUMBER_INVALID", http.StatusBadRequest, "n must be a number of 0 or more")
	ErrPrecondition     = newKind("DENIED", http.StatusPreconditionFailed,
		"what If-Match or If-None-Match asks for does not hold: read again")
	ErrSizeInvalid     = newKind("SIZE_INVALID", http.StatusBadRequest, "body is not as long as Content-Length says")
	ErrUnauthorized    = newKind("UNAUTHORIZED", http.StatusUnauthorized, "authentication required")
	ErrDenied          = newKind("DENIED", http.StatusForbidden, "requested access is denied")
	ErrUnsupported     = newKind("UNSUPPORTED", http.StatusMethodNotAllowed, "operation not supported")
	ErrTooManyRequests = newKind("TOOMANYREQUESTS", http.StatusTooManyRequests, "too many requests")
	ErrNoSpace         = newKind("UNKNOWN", http.StatusInsufficientStorage, "the registry's storage is full")
	ErrUnavailable     = newKind("UNAVAILABLE", http.StatusServiceUnavailable, "a service this answer needs does not respond: try again")
)

func newKind(code string, status int, message string) *Error {
	return &Error{Code: code, Status: status, Message: message}
}

func (e *Error) Error() string {
	s := e.Code + ": " + e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is of the same kind.
func (e *Error) Is(target error) bool {
	var t *Error
	if !errors.As(target, &t) {
		return false
	}
	return t.Code == e.Code && t.Status == e.Status
}

// With returns a copy with a message for people. It keeps the kind.
func (e *Error) With(format string, args ...any) *Error {
	c := *e
	c.Message = fmt.Sprintf(format, args...)
	return &c
}

// WithDetail returns a copy with a detail for the wire.
func (e *Error) WithDetail(detail any) *Error {
	c := *e
	c.Detail = detail
	return &c
}

// WithChallenge returns a copy that sends challenge as WWW-Authenticate (RFC 9110 §11.6.1), which tells clients where to sign in:
//
//	return registry.Actor{}, registry.ErrUnauthorized.WithChallenge(`Basic realm="registry"`)
//
// It keeps the kind.
func (e *Error) WithChallenge(challenge string) *Error {
	c := *e
	c.Challenge = challenge
	return &c
}

// Wrap returns a copy with a cause for the log.
func (e *Error) Wrap(err error) *Error {
	c := *e
	c.Err = err
	return &c
}
