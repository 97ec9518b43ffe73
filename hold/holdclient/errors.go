package holdclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/atcr-dev/atcr/internal/httpx"
)

// Kinds of errors. Every error of this package is one of them, or the context's.
var (
	// ErrNotFound: the hold has no such blob or record.
	ErrNotFound = errors.New("not found")
	// ErrUnauthorized: the hold wants a token and there is none, or it refused the one it got.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrForbidden: the user may not do this there.
	ErrForbidden = errors.New("forbidden")
	// ErrQuotaExceeded: the user's tier is used up.
	ErrQuotaExceeded = errors.New("quota exceeded")
	// ErrUnavailable: the hold can't be reached, answers 5xx, or asks to try again (408, 409).
	ErrUnavailable = errors.New("hold unavailable")
	// ErrNotAllowed: the hold's address is one that the client's address guard refuses; trying again does not help.
	ErrNotAllowed = errors.New("the hold's address is not allowed")
	// ErrNoSpace: the hold's storage is full.
	ErrNoSpace = errors.New("hold has no space left")
	// ErrRateLimited: too many requests; see Error.RetryAfter.
	ErrRateLimited = errors.New("rate limited")
	// ErrInvalidDigest: the hold doesn't take this digest, or the bytes don't hash to it.
	ErrInvalidDigest = errors.New("invalid digest")
	// ErrInvalidUpload: the hold doesn't know the uploadId, or not this part of it.
	ErrInvalidUpload = errors.New("invalid upload")
	// ErrMissingParts: the upload can't be completed because parts are missing at the hold.
	ErrMissingParts = errors.New("missing parts")
	// ErrNotSupported: the hold lacks this method.
	ErrNotSupported = errors.New("not supported by the hold")
	// ErrRangeNotSatisfiable: the range asked of a blob lies outside it.
	ErrRangeNotSatisfiable = errors.New("range not satisfiable")
	// ErrInvalid: the hold refused the request for another reason, which Error names.
	ErrInvalid = errors.New("refused by the hold")
	// ErrLinkRefused: the hold names an address for readers or parts that nobody may be sent to.
	ErrLinkRefused = errors.New("link of the hold refused")
	// ErrBadAnswer: the hold's answer is not what the protocol allows, or is over a limit.
	ErrBadAnswer = errors.New("bad answer from the hold")
)

// Error is an answer, or the lack of one, from a hold.
type Error struct {
	Kind       error         // one of the Err… of this package
	Method     string        // the XRPC method that was called
	URL        string        // the hold's address
	Status     int           // HTTP status, 0 when there was no answer
	Name       string        // XRPC error name, may be empty
	Message    string        // XRPC message, may be empty
	RetryAfter time.Duration // 0 when the hold didn't say
	Cause      error         // of a failed connection
}

// Error names the hold, the method, and what was wrong.
func (e *Error) Error() string {
	s := fmt.Sprintf("hold %s: %s: %v", e.URL, e.Method, e.Kind)
	if e.Status != 0 {
		s += fmt.Sprintf(" (%d", e.Status)
		if e.Name != "" {
			s += " " + e.Name
		}
		s += ")"
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause != nil {
		return []error{e.Kind, e.Cause}
	}
	return []error{e.Kind}
}

// kindByName maps XRPC error names; they say more than the status, so they are asked first.
var kindByName = map[string]error{
	"AuthRequired":           ErrUnauthorized,
	"AuthenticationRequired": ErrUnauthorized,
	"AuthMissing":            ErrUnauthorized,
	"InvalidToken":           ErrUnauthorized,
	"ExpiredToken":           ErrUnauthorized,
	"BadJwtAudience":         ErrUnauthorized,
	"Forbidden":              ErrForbidden,
	"AccessDenied":           ErrForbidden,
	"UserMismatch":           ErrForbidden,
	"RegistrationDisabled":   ErrForbidden,
	"QuotaExceeded":          ErrQuotaExceeded,
	"BlobNotFound":           ErrNotFound,
	"RecordNotFound":         ErrNotFound,
	"UserNotFound":           ErrNotFound,
	"InvalidDigest":          ErrInvalidDigest,
	"InvalidUploadId":        ErrInvalidUpload,
	"InvalidPartNumber":      ErrInvalidUpload,
	"MissingParts":           ErrMissingParts,
	"MethodNotImplemented":   ErrNotSupported,
	"InvalidOperation":       ErrNotSupported,
	"RateLimitExceeded":      ErrRateLimited,
	"InsufficientStorage":    ErrNoSpace,
	"UpstreamFailure":        ErrUnavailable,
	"InternalServerError":    ErrUnavailable,
	"InvalidManifest":        ErrInvalid,
	"ManifestBlobUnknown":    ErrInvalid,
	"ManifestRecordNotFound": ErrInvalid,
	"ManifestNamesOtherHold": ErrInvalid,
	"TooManyLeases":          ErrQuotaExceeded,
	"TooManyOpenUploads":     ErrRateLimited,
	"PDSUnavailable":         ErrUnavailable,
	"AccountNotReachable":    ErrUnavailable,
}

func kindByStatus(status int) error {
	switch status {
	case http.StatusUnauthorized:
		return ErrUnauthorized
	case http.StatusForbidden:
		return ErrForbidden
	case http.StatusNotFound, http.StatusGone:
		return ErrNotFound
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return ErrNotSupported
	case http.StatusRequestedRangeNotSatisfiable:
		return ErrRangeNotSatisfiable
	case http.StatusConflict, http.StatusRequestTimeout: // somebody else is at it, or the line was slow: again
		return ErrUnavailable
	case http.StatusTooManyRequests:
		return ErrRateLimited
	case http.StatusInsufficientStorage:
		return ErrNoSpace
	}
	switch {
	case status >= 500:
		return ErrUnavailable
	case status >= 400:
		return ErrInvalid
	}
	return ErrBadAnswer
}

// answerError reads an answer that is no success.
func answerError(c *Client, method string, resp *http.Response) *Error {
	e := &Error{Method: method, URL: c.h.url, Status: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 && s < 1<<20 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	var body struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	if b, err := httpx.ReadLimited(resp, maxErrorBody); err == nil && json.Unmarshal(b, &body) == nil {
		e.Name, e.Message = clip(body.Error, 100), clip(body.Message, 1000)
	}
	if e.Kind = kindByName[e.Name]; e.Kind == nil {
		e.Kind = kindByStatus(resp.StatusCode)
	}
	return e
}

// lacksMethod tells a hold that has no such method from one that has it and found nothing: an XRPC server names
// the error, a plain router's 404 carries no name.
func lacksMethod(e *Error) bool {
	if e.Name == "MethodNotImplemented" {
		return true
	}
	switch e.Status {
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return true
	case http.StatusNotFound:
		return e.Name == "" || e.Name == "NotFound"
	}
	return false
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
