package auth

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

// errMisdirected: the Host is not one that this server can know to be its own.
var errMisdirected = &registry.Error{
	Code: "UNSUPPORTED", Status: http.StatusMisdirectedRequest,
	Message: "this server does not know itself by that host name: set server.base_url to its public address",
}

// errNoSession: signing in again is the remedy.
var errNoSession = registry.ErrUnauthorized.With("your session has ended: sign in again: docker login REGISTRY -u HANDLE")

// writeError returns an OCI error. What has no code is a 500 whose cause is not sent.
func writeError(w http.ResponseWriter, err error) int {
	var e *registry.Error
	if errors.Is(err, sqlx.ErrNoSpace) {
		e = registry.ErrNoSpace
	} else if !errors.As(err, &e) {
		e = &registry.Error{Code: "UNKNOWN", Status: http.StatusInternalServerError, Message: "internal error"}
	}
	h := w.Header()
	if e.Challenge != "" {
		h.Set("WWW-Authenticate", e.Challenge)
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	type oneError struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	message := strings.Map(func(c rune) rune { // it may quote a PDS, and clients print it
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, e.Message)
	writeJSON(w, e.Status, map[string]any{"errors": []oneError{{e.Code, message, e.Detail}}})
	return e.Status
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}
