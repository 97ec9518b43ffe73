package hold

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/atcr-dev/atcr/hold/internal/ledger"
	"github.com/atcr-dev/atcr/hold/internal/upload"
	"github.com/atcr-dev/atcr/identity/serviceauth"
	"github.com/atcr-dev/atcr/internal/blobhttp"
	"github.com/atcr-dev/atcr/internal/pace"
	"github.com/atcr-dev/atcr/internal/room"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/storage"
)

// xrpcError is an answer that is no success. Handlers return it or an error of a package below, and [classify] is the
// one place that gives those their name on the wire.
type xrpcError struct {
	status     int
	name       string
	message    string
	retryAfter time.Duration
	challenge  string // of WWW-Authenticate
	cause      error  // for errors.Is, and told nobody; may be nil
}

func (e *xrpcError) Error() string { return e.name + ": " + e.message }

func (e *xrpcError) Unwrap() error { return e.cause }

func fail(status int, name, format string, args ...any) error {
	return &xrpcError{status: status, name: name, message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return fail(http.StatusBadRequest, "InvalidRequest", format, args...)
}

func invalidDigest(format string, args ...any) error {
	return fail(http.StatusBadRequest, "InvalidDigest", format, args...)
}

func invalidUpload(format string, args ...any) error {
	return fail(http.StatusBadRequest, "InvalidUploadId", format, args...)
}

func forbidden(format string, args ...any) error {
	return fail(http.StatusForbidden, "Forbidden", format, args...)
}

func unauthorized(name, format string, args ...any) error {
	return &xrpcError{status: http.StatusUnauthorized, name: name, message: fmt.Sprintf(format, args...), challenge: "Bearer"}
}

// errBusyClient is for one who has too many requests at once.
var errBusyClient = &xrpcError{status: http.StatusTooManyRequests, name: "RateLimitExceeded",
	message: "too many requests of this client at once", retryAfter: time.Second}

// unavailable is for what another server owes us.
func unavailable(name, format string, args ...any) error {
	return &xrpcError{status: http.StatusServiceUnavailable, name: name, message: fmt.Sprintf(format, args...),
		retryAfter: 30 * time.Second}
}

// classify gives any error its status and name. What it doesn't know is 500, whose cause is logged and not told.
func classify(err error) *xrpcError {
	var x *xrpcError
	var token *serviceauth.Error
	var tooLarge *http.MaxBytesError
	var refused *upload.Error
	var leases *ledger.LeaseLimitError
	var full *room.FullError
	switch {
	case errors.As(err, &x):
		return x
	case errors.As(err, &refused):
		return refusedUpload(refused)
	case errors.As(err, &leases):
		return &xrpcError{status: http.StatusForbidden, name: "TooManyLeases", message: leases.Error()}
	case errors.As(err, &token):
		e := &xrpcError{status: token.Status(), name: token.Name(),
			message: "service token: " + token.Message} // the cause may name addresses
		if e.status == http.StatusUnauthorized {
			e.challenge = "Bearer"
		} else {
			e.retryAfter = 10 * time.Second
		}
		return e
	case errors.Is(err, blobhttp.ErrRange):
		return &xrpcError{status: http.StatusRequestedRangeNotSatisfiable, name: "InvalidRange", message: err.Error()}
	case errors.Is(err, blobhttp.ErrPrecondition):
		return &xrpcError{status: http.StatusPreconditionFailed, name: "PreconditionFailed", message: err.Error()}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &xrpcError{status: http.StatusRequestTimeout, name: "UploadFailed",
			message: "the body came too slowly; what came is kept, send the part again"}
	case errors.As(err, &tooLarge):
		return &xrpcError{status: http.StatusRequestEntityTooLarge, name: "PayloadTooLarge",
			message: fmt.Sprintf("the body is over %d bytes", tooLarge.Limit)}
	case errors.As(err, &full):
		return &xrpcError{status: http.StatusInsufficientStorage, name: "InsufficientStorage",
			message: "the hold has no space left for more: " + full.Error() + "; its captain can help", retryAfter: time.Minute}
	case errors.Is(err, storage.ErrNoSpace), errors.Is(err, repo.ErrNoSpace), errors.Is(err, sqlx.ErrNoSpace):
		return &xrpcError{status: http.StatusInsufficientStorage, name: "InsufficientStorage",
			message: "the hold has no space left; nothing was kept of this request; its captain can help", retryAfter: time.Minute}
	case errors.Is(err, storage.ErrNotFound):
		return &xrpcError{status: http.StatusNotFound, name: "BlobNotFound", message: "the hold does not have this blob"}
	case errors.Is(err, storage.ErrDigestInvalid):
		return &xrpcError{status: http.StatusBadRequest, name: "InvalidDigest", message: err.Error()}
	case errors.Is(err, storage.ErrDigestMismatch):
		return &xrpcError{status: http.StatusBadRequest, name: "InvalidDigest",
			message: "the uploaded bytes do not hash to this digest; the upload is kept"}
	case errors.Is(err, storage.ErrUploadUnknown):
		return &xrpcError{status: http.StatusBadRequest, name: "InvalidUploadId", message: "no such upload"}
	case errors.Is(err, storage.ErrUploadBusy):
		return &xrpcError{status: http.StatusConflict, name: "UploadFailed",
			message: "another part of this upload is being written; send it again", retryAfter: time.Second}
	case errors.Is(err, repo.ErrNotFound):
		return &xrpcError{status: http.StatusNotFound, name: "RecordNotFound", message: "no such record"}
	case errors.Is(err, repo.ErrInvalidSwap):
		return &xrpcError{status: http.StatusBadRequest, name: "InvalidSwap", message: err.Error()}
	case errors.Is(err, repo.ErrTooLarge):
		return &xrpcError{status: http.StatusRequestEntityTooLarge, name: "PayloadTooLarge", message: err.Error()}
	case errors.Is(err, repo.ErrInvalidRecord):
		return &xrpcError{status: http.StatusBadRequest, name: "InvalidRequest", message: err.Error()}
	case errors.Is(err, repo.ErrBusy), errors.Is(err, sqlx.ErrBusy):
		return &xrpcError{status: http.StatusServiceUnavailable, name: "Busy", message: "the hold's database is busy",
			retryAfter: time.Second}
	}
	return &xrpcError{status: http.StatusInternalServerError, name: "InternalServerError", message: "the hold failed; its log says why"}
}

// refusedUpload gives the kinds of package upload their names.
func refusedUpload(e *upload.Error) *xrpcError {
	x := &xrpcError{status: http.StatusBadRequest, name: "UploadFailed", message: e.Message}
	switch e.Kind {
	case upload.ErrUnknown:
		x.name = "InvalidUploadId"
	case upload.ErrTooMany:
		x.status, x.name, x.retryAfter = http.StatusTooManyRequests, "TooManyOpenUploads", time.Minute
	case upload.ErrSpoolShare:
		x.status, x.name, x.retryAfter = http.StatusTooManyRequests, "TooManyEarlyParts", time.Minute
	case upload.ErrMissingParts:
		x.name = "MissingParts"
	case upload.ErrPartOrder:
		x.name = "InvalidRequest"
	case upload.ErrOtherDigest:
		x.name = "InvalidDigest"
	case upload.ErrBytesLost:
		x.status = http.StatusInternalServerError
	}
	return x
}

// writeError returns a request with an error.
func writeError(w http.ResponseWriter, e *xrpcError) {
	h := w.Header()
	if e.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(e.retryAfter/time.Second)))
	}
	if e.challenge != "" {
		h.Set("WWW-Authenticate", e.challenge)
	}
	writeJSON(w, e.status, map[string]string{"error": e.name, "message": e.message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":"InternalServerError","message":"the answer can't be encoded"}`)
	}
	defer pace.Answer(w, int64(len(b)))()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Del("Content-Disposition")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}
