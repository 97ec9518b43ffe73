package xrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/atcr-dev/atcr/internal/pace"
	"github.com/atcr-dev/atcr/repo"
)

// Error is an XRPC error: an HTTP status, a name that programs compare, a text for people.
type Error struct {
	Status  int    `json:"-"`
	Name    string `json:"error"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Name + ": " + e.Message }

// Errorf makes an Error.
func Errorf(status int, name, format string, args ...any) *Error {
	return &Error{Status: status, Name: name, Message: fmt.Sprintf(format, args...)}
}

// InvalidRequest is a 400 of the common name.
func InvalidRequest(format string, args ...any) *Error {
	return Errorf(http.StatusBadRequest, "InvalidRequest", format, args...)
}

// kinds is the one table from kinds of errors to the wire. An [Error] in the chain goes out as it is.
var kinds = []struct {
	kind   error
	status int
	name   string
}{
	{repo.ErrInvalidSwap, http.StatusBadRequest, "InvalidSwap"},
	{repo.ErrBlobMissing, http.StatusBadRequest, "BlobNotFound"},
	{repo.ErrTooLarge, http.StatusRequestEntityTooLarge, "PayloadTooLarge"},
	{repo.ErrInvalidRecord, http.StatusBadRequest, "InvalidRequest"},
	{repo.ErrExists, http.StatusBadRequest, "InvalidRequest"},
	{repo.ErrNotFound, http.StatusBadRequest, "RecordNotFound"},
	{repo.ErrNoSpace, http.StatusInsufficientStorage, "NotEnoughStorage"},
	{repo.ErrBusy, http.StatusServiceUnavailable, "NotEnoughResources"},
	{repo.ErrClosed, http.StatusServiceUnavailable, "NotEnoughResources"},
}

// ToError says how an error goes out. What is nobody's business becomes a 500 without its text.
func ToError(err error) *Error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e
	}
	if e := (*http.MaxBytesError)(nil); errors.As(err, &e) {
		return Errorf(http.StatusRequestEntityTooLarge, "PayloadTooLarge", "request entity too large: at most %d bytes are taken", e.Limit)
	}
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			return &Error{k.status, k.name, err.Error()}
		}
	}
	return Errorf(http.StatusInternalServerError, "InternalServerError", "Internal Server Error")
}

// WriteError writes err as XRPC JSON. One that becomes a 5xx is logged: 500 and 507 at level error, others, which say that there is no room
// just now, at warn. nil log is slog.Default().
func WriteError(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	e := ToError(err)
	if e.Status >= 500 && !errors.Is(err, context.Canceled) {
		if log == nil {
			log = slog.Default()
		}
		level := slog.LevelWarn
		if e.Status == http.StatusInternalServerError || e.Status == http.StatusInsufficientStorage {
			level = slog.LevelError
		}
		log.Log(r.Context(), level, "xrpc request failed", "path", r.URL.Path, "status", e.Status, "error", err)
	}
	WriteJSON(w, e.Status, e)
}

// WriteJSON writes v as JSON with a status. A client that does not read it within a minute, and a second for each 8 KiB, does not get it.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"InternalServerError","message":"Internal Server Error"}`)
	}
	defer pace.Answer(w, int64(len(body)))()
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // the client is gone
}
