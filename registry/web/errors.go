package web

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/atcr-dev/atcr/identity/oauth"
	"github.com/atcr-dev/atcr/internal/websession"
	"github.com/atcr-dev/atcr/internal/webui"
	"github.com/atcr-dev/atcr/registry"
)

// trouble is an error as a page says it. The zero status is one that nobody is told the cause of.
type trouble struct {
	status int
	text   string
	after  time.Duration
}

// refusal is an error of these pages themselves.
type refusal trouble

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, text: fmt.Sprintf(format, args...)}
}

// explain returns what a person is told of an error. This is the one place that decides.
func explain(err error) trouble {
	var o *oauth.Error
	var e *registry.Error
	var own *refusal
	switch {
	case errors.As(err, &own):
		return trouble{own.status, sentence(own.text), own.after}
	case errors.As(err, &o):
		return trouble{oauthStatus(o), sentence(o.Message), o.RetryAfter}
	case errors.As(err, &e):
		return trouble{e.Status, sentence(e.Message), e.RetryAfter}
	case errors.Is(err, websession.ErrNone):
		return trouble{http.StatusNotFound, sentence(websession.ErrNone.Error()), 0}
	}
	return trouble{}
}

func oauthStatus(e *oauth.Error) int {
	switch {
	case errors.Is(e, oauth.ErrUnavailable):
		return http.StatusServiceUnavailable
	case errors.Is(e, oauth.ErrTooManyRequests):
		return http.StatusTooManyRequests
	case errors.Is(e, oauth.ErrDenied):
		return http.StatusForbidden
	}
	return http.StatusBadRequest
}

// sentence makes one of an error's message.
func sentence(s string) string {
	r := []rune(s)
	if len(r) == 0 {
		return ""
	}
	if r[0] >= 'a' && r[0] <= 'z' {
		r[0] -= 'a' - 'A'
	}
	if last := r[len(r)-1]; last != '.' && last != '?' && last != '!' {
		r = append(r, '.')
	}
	return string(r)
}

// tell sets the headers of an error and returns its status and text, logging what people aren't told.
func (s *Site) tell(w http.ResponseWriter, r *http.Request, err error) (status int, text string) {
	t := explain(err)
	if t.status == 0 {
		if r.Context().Err() == nil || !errors.Is(err, context.Canceled) {
			s.opts.Log.Error("a page failed", "path", r.URL.Path, "err", err)
		}
		return http.StatusInternalServerError, "The server could not do this. Try again later."
	}
	s.opts.Log.Debug("a page refused", "path", r.URL.Path, "status", t.status, "err", err)
	if t.after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(t.after.Seconds()))))
	}
	return t.status, t.text
}

// fail shows an error as a page of its own.
func (s *Site) fail(w http.ResponseWriter, r *http.Request, account string, err error, next ...webui.Link) {
	p := webui.Problem{Account: account}
	if p.Status, p.Text = s.tell(w, r, err); p.Status != http.StatusInternalServerError {
		p.Title = "That did not work"
	}
	if len(next) > 0 {
		p.Next = next[0]
	}
	s.ui.Fail(w, r, p)
}
