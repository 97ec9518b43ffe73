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
	ErrBlobUnknown         = &Error{Code: "BLOB_UNKNOWN", Status: http.StatusNotFound, Message: "blob unknown to repository"}
	ErrUploadUnknown       = &Error{Code: "BLOB_UPLOAD_UNKNOWN", Status: http.StatusNotFound, Message: "upload unknown: start a new one by POST"}
	ErrUploadInvalid       = &Error{Code: "BLOB_UPLOAD_INVALID", Status: http.StatusBadRequest, Message: "upload invalid"}
	ErrUploadBusy          = &Error{Code: "BLOB_UPLOAD_INVALID", Status: http.StatusConflict, Message: "another request is writing to this upload"}
	ErrRangeInvalid        = &Error{Code: "BLOB_UPLOAD_INVALID", Status: http.StatusRequestedRangeNotSatisfiable, Message: "Content-Range does not begin where the upload ends"}
	ErrDigestInvalid       = &Error{Code: "DIGEST_INVALID", Status: http.StatusBadRequest, Message: "digest invalid, or not that of the content"}
	ErrManifestBlobUnknown = &Error{Code: "MANIFEST_BLOB_UNKNOWN", Status: http.StatusNotFound, Message: "manifest names a blob or manifest that is not here: push it first"}
	ErrManifestInvalid     = &Error{Code: "MANIFEST_INVALID", Status: http.StatusBadRequest, Message: "manifest invalid"}
	ErrManifestTooLarge    = &Error{Code: "MANIFEST_INVALID", Status: http.StatusRequestEntityTooLarge, Message: "manifest too large"}
	ErrManifestUnknown     = &Error{Code: "MANIFEST_UNKNOWN", Status: http.StatusNotFound, Message: "manifest unknown"}
	ErrNameInvalid         = &Error{Code: "NAME_INVALID", Status: http.StatusBadRequest, Message: "invalid repository name"}
	ErrNameUnknown         = &Error{Code: "NAME_UNKNOWN", Status: http.StatusNotFound, Message: "repository name not known"}
	ErrTagInvalid          = &Error{Code: "TAG_INVALID", Status: http.StatusBadRequest, Message: "invalid tag"}
	ErrPageInvalid         = &Error{Code: "PAGINATION_NUMBER_INVALID", Status: http.StatusBadRequest, Message: "n must be a number of 0 or more"}
	ErrPrecondition        = &Error{Code: "DENIED", Status: http.StatusPreconditionFailed, Message: "what If-Match or If-None-Match asks for does not hold: read again"}
	ErrSizeInvalid         = &Error{Code: "SIZE_INVALID", Status: http.StatusBadRequest, Message: "body is not as long as Content-Length says"}
	ErrUnauthorized        = &Error{Code: "UNAUTHORIZED", Status: http.StatusUnauthorized, Message: "authentication required"}
	ErrDenied              = &Error{Code: "DENIED", Status: http.StatusForbidden, Message: "requested access is denied"}
	ErrUnsupported         = &Error{Code: "UNSUPPORTED", Status: http.StatusMethodNotAllowed, Message: "operation not supported"}
	ErrTooManyRequests     = &Error{Code: "TOOMANYREQUESTS", Status: http.StatusTooManyRequests, Message: "too many requests"}
	ErrNoSpace             = &Error{Code: "UNKNOWN", Status: http.StatusInsufficientStorage, Message: "the registry's storage is full"}
	ErrUnavailable         = &Error{Code: "UNAVAILABLE", Status: http.StatusServiceUnavailable, Message: "a service this answer needs does not respond: try again"}
)

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

// With answers a copy with a message for people. It keeps the kind.
func (e *Error) With(format string, args ...any) *Error {
	c := *e
	c.Message = fmt.Sprintf(format, args...)
	return &c
}

// WithDetail answers a copy with a detail for the wire.
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

// Wrap answers a copy with a cause for the log.
func (e *Error) Wrap(err error) *Error {
	c := *e
	c.Err = err
	return &c
}
