package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"github.com/atcr-dev/atcr/internal/blobhttp"
)

// Kinds that backends have no use for.
var (
	errNoEndpoint   = newKind("UNSUPPORTED", http.StatusNotFound, "no such endpoint in OCI Distribution")
	errBadRequest   = newKind("UNSUPPORTED", http.StatusBadRequest, "bad request")
	errQueryTooLong = newKind("UNSUPPORTED", http.StatusRequestURITooLong, "the query of the URL is too long")
	errTooManyTags  = newKind("TAG_INVALID", http.StatusRequestURITooLong, "too many tags in one push")
	errBlobTooLarge = newKind("SIZE_INVALID", http.StatusRequestEntityTooLarge, "blob too large")
	errSlowBody     = newKind("SIZE_INVALID", http.StatusRequestTimeout, "the body came too slowly")
	errNoSuchRange  = newKind("UNSUPPORTED", http.StatusRequestedRangeNotSatisfiable, "range not satisfiable")
	errInternal     = newKind("UNKNOWN", http.StatusInternalServerError, "internal error")
	errNilResult    = newKind("UNKNOWN", http.StatusInternalServerError,
		"the registry's backend returned neither a result nor an error: the server's log names the method")
)

// kinds says what errors of other packages are on the wire.
var kinds = []struct {
	is   error
	wire *Error
}{
	{blobhttp.ErrRange, errNoSuchRange},
	{blobhttp.ErrPrecondition, ErrPrecondition},
	{blobhttp.ErrContentRange, ErrUploadInvalid},
	{blobhttp.ErrOffset, ErrRangeInvalid},
	{blobhttp.ErrTooLarge, errBlobTooLarge},
	{blobhttp.ErrShortBody, ErrSizeInvalid},
	{blobhttp.ErrSlowBody, errSlowBody},
	{blobhttp.ErrBody, ErrSizeInvalid},
}

// toError finds what is sent for an error.
func toError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	for _, k := range kinds {
		if errors.Is(err, k.is) {
			return k.wire.With("%v", err)
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrSizeInvalid.Wrap(err)
	}
	return errInternal.Wrap(err)
}

// nilResult is for a method of a backend that returned nil without an error.
func nilResult(method string) error {
	return errNilResult.Wrap(fmt.Errorf("%s returned nil without an error", method))
}

// listed is the list that a method of a backend returned.
func listed[T any](method string, list iter.Seq2[T, error]) iter.Seq2[T, error] {
	if list == nil {
		return Fail[T](nilResult(method))
	}
	return list
}

// nameError is for what Options.Name answered.
func nameError(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	return ErrNameInvalid.Wrap(err)
}

// methodError is ErrUnsupported with the methods that would do.
type methodError struct {
	err   *Error
	allow string
}

func (e *methodError) Error() string { return e.err.Error() }

func (e *methodError) Unwrap() error { return e.err }

func notAllowed(methods ...string) error {
	allow := strings.Join(methods, ", ")
	return &methodError{ErrUnsupported.With("use %s here", allow), allow}
}

// challenged gives a backend's ErrUnauthorized the actor's challenge, without which clients don't sign in. So it does with what the
// backend did not find for a request without a token: see [Actor.NoToken].
func challenged(err error, actor Actor) error {
	var e *Error
	if err == nil || actor.Challenge == "" || !errors.As(err, &e) || e.Challenge != "" {
		return err
	}
	switch {
	case e.Status == http.StatusUnauthorized:
	case e.Status == http.StatusNotFound && actor.NoToken:
		e = ErrUnauthorized.With("%s to those who are not signed in: sign in, or get an anonymous token", e.Message).Wrap(err)
	default:
		return err
	}
	return e.WithChallenge(actor.Challenge)
}

// fail returns an error, unless the answer is on its way already.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, req request, err error) {
	e := toError(err)
	h.logError(r, req, err, e)
	if errors.Is(err, blobhttp.ErrAborted) {
		return
	}
	header := w.Header()
	if e.Challenge != "" {
		header.Set("WWW-Authenticate", e.Challenge)
	}
	if e.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	var m *methodError
	if errors.As(err, &m) {
		header.Set("Allow", m.allow)
	}
	if req.op == opPing && e.Status == http.StatusUnauthorized {
		writeJSON(w, e.Status, "application/json", []byte("{}"))
		return
	}
	writeJSON(w, e.Status, "application/json", e.body())
}

func (h *Handler) logError(r *http.Request, req request, err error, e *Error) {
	aborted := errors.Is(err, blobhttp.ErrAborted)
	level := slog.LevelDebug
	switch {
	case r.Context().Err() != nil, errors.Is(err, blobhttp.ErrNotRead): // the client has gone; what follows is no fault of ours
	case errors.Is(err, context.Canceled) && !aborted:
	case errors.Is(err, ErrUnavailable),
		e.Status > http.StatusInternalServerError && e.Status != http.StatusInsufficientStorage && !aborted:
		level = slog.LevelWarn // others' doing, or more than there is room for: anybody could fill the log with errors
	case e.Status >= http.StatusInternalServerError, aborted:
		level = slog.LevelError
	}
	h.opts.Log.Log(r.Context(), level, "registry: request failed",
		"op", string(req.op), "method", r.Method, "repository", req.repo, "status", e.Status, "code", e.Code, "err", err)
}

// body is the error as JSON of the distribution specification, "Error Codes".
func (e *Error) body() []byte {
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	list := map[string][]entry{"errors": {{e.Code, printable(e.Message), e.Detail}}}
	data, err := json.Marshal(list)
	if err != nil { // a detail that has no JSON
		list["errors"][0].Detail = nil
		data, _ = json.Marshal(list)
	}
	return data
}

// printable takes out what a terminal would act on: messages may quote untrusted servers, and clients print them.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, text)
}

// writeJSON returns a body of known length.
func writeJSON(w http.ResponseWriter, status int, contentType string, body []byte) {
	header := w.Header()
	header["Content-Type"] = []string{contentType}
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone is told nothing
}

// empty returns a status with no body.
func empty(w http.ResponseWriter, status int) error {
	if status != http.StatusNoContent {
		w.Header()["Content-Length"] = zero
	}
	w.WriteHeader(status)
	return nil
}

var zero = []string{"0"}

// setWarning sends a Warning of code 299 (RFC 7234 §5.5), as one line of printable text.
func setWarning(header http.Header, text string) {
	if text == "" {
		return
	}
	clean := strings.Map(func(c rune) rune {
		if c < ' ' || c == '"' || c == '\\' || c == 0x7f {
			return ' '
		}
		return c
	}, text)
	header.Set("Warning", `299 - "`+clean+`"`)
}
