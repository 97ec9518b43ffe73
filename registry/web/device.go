package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/internal/websession"
	"github.com/atcr-dev/atcr/internal/webui"
)

// Devices are machines that people approve. Errors are of the registry's kinds ([registry.Error]), with messages for people.
type Devices interface {
	// Pending returns the device that waits with a code. Wrong codes are counted by the client that ctx belongs to (httpx.Client).
	Pending(ctx context.Context, code string) (*Waiting, error)
	// Approve lets it act for an account by a grant. Deny refuses it.
	Approve(ctx context.Context, code, did, handle, grant string) error
	Deny(ctx context.Context, code string) error
	// List returns an account's devices; End ends one.
	List(ctx context.Context, did string) ([]Token, error)
	End(ctx context.Context, did, id string) error
}

// Waiting is a device that waits to be approved. Name is untrusted.
type Waiting struct {
	Code    string // as people compare it: BCDF-GHJK
	Name    string
	Address string
	Since   time.Time
}

// devicePage is the data of /device.
type devicePage struct {
	Waiting *Waiting // nil: a code is asked for
	Code    string
	// Here reports whether the device waits at the address that the browser comes from.
	Here bool
	// Again says that the account's server asks once more.
	Again bool
}

func (s *Site) device(w http.ResponseWriter, r *http.Request, who *websession.Session) {
	if s.opts.Devices == nil {
		s.ui.NotFound(w, r, accountName(who))
		return
	}
	s.showDevice(w, r, who, strings.TrimSpace(r.URL.Query().Get("user_code")))
}

func (s *Site) showDevice(w http.ResponseWriter, r *http.Request, who *websession.Session, code string) {
	p := webui.Page{Title: "Sign in a device", Account: accountName(who)}
	data, status := devicePage{Code: code}, http.StatusOK
	if code != "" {
		waiting, err := s.opts.Devices.Pending(r.Context(), code)
		if err != nil {
			status, p.Trouble = s.tell(w, r, err)
		} else {
			p.Title = "Is this your device?"
			data.Waiting, data.Here = waiting, waiting.Address == s.client(r).String()
			data.Again = s.opts.OAuth != nil && strings.HasPrefix(who.Grant, oauthPrefix)
		}
	}
	p.Data = data
	s.pages.Show(w, r, status, "device", p)
}

// decideDevice takes the answer that somebody gave on /device.
func (s *Site) decideDevice(w http.ResponseWriter, r *http.Request, who *websession.Session) {
	if s.opts.Devices == nil {
		s.ui.NotFound(w, r, accountName(who))
		return
	}
	code := strings.TrimSpace(r.PostForm.Get("user_code"))
	back := webui.Link{Text: "Back to the device", URL: "/device?" + url.Values{"user_code": {code}}.Encode()}
	switch r.PostForm.Get("answer") {
	case "approve":
		// Once more before anything is asked for: the code may be over.
		if _, err := s.opts.Devices.Pending(r.Context(), code); err != nil {
			s.fail(w, r, accountName(who), err, back)
			return
		}
		if err := s.ask(w, r, who, errand{Kind: errandDevice, Code: code}); err != nil {
			s.fail(w, r, accountName(who), err, back)
		}
	case "deny":
		if err := s.opts.Devices.Deny(r.Context(), code); err != nil {
			s.fail(w, r, accountName(who), err, back)
			return
		}
		s.pages.Show(w, r, http.StatusOK, "device-done", webui.Page{
			Title: "The device was refused", Account: accountName(who), Data: struct{ Approved bool }{false},
		})
	default:
		s.fail(w, r, accountName(who), refuse(http.StatusBadRequest, "the form has no answer: approve the device, or refuse it"), back)
	}
}

// approve lets a device act by a grant, and reports whether it does.
func (s *Site) approve(w http.ResponseWriter, r *http.Request, who *websession.Session, code, grant string) bool {
	if err := s.opts.Devices.Approve(r.Context(), code, who.DID, who.Handle, grant); err != nil {
		s.fail(w, r, accountName(who), err, webui.Link{Text: "Enter a code", URL: "/device"})
		return false
	}
	s.pages.Show(w, r, http.StatusOK, "device-done", webui.Page{
		Title: "The device is signed in", Account: accountName(who), Data: struct{ Approved bool }{true},
	})
	return true
}
