package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/identity/oauth"
	"github.com/atcr-dev/atcr/internal/websession"
	"github.com/atcr-dev/atcr/internal/webui"
)

// OAuth signs people in at their servers: *oauth.Client. Its errors are of the kinds of that package.
type OAuth interface {
	Begin(ctx context.Context, o oauth.Begin) (*oauth.Started, error)
	Finish(ctx context.Context, callback url.Values, browser string) (*oauth.Finished, error)
}

// errand is what a sign-in at the account's server is for. It travels with it, where only this server can read it.
type errand struct {
	Kind string `json:"kind"`
	Next string `json:"next,omitempty"` // where to go then
	// By is the browser session that asked for a device's or robot's grant, of which account.
	By   string     `json:"by,omitempty"`
	Code string     `json:"code,omitempty"`
	Spec *RobotSpec `json:"robot,omitempty"`
	// ID and Name are a robot's that is renewed.
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

const (
	errandLogin  = "login"
	errandDevice = "device"
	errandRobot  = "robot"
	errandRenew  = "renew"

	loginCookie = cookieName + "-login"
	maxOnward   = 2 << 10 // bytes of an address to go on to
	maxErrand   = 4 << 10 // what travels with a sign-in
)

func unsupported(err error) bool { return errors.Is(err, oauth.ErrUnsupported) }

// begin asks the account's server to sign somebody in, and leads the browser to a page from which it goes there.
func (s *Site) begin(w http.ResponseWriter, r *http.Request, account string, keep bool, why errand) error {
	if wait := s.begins.Take(s.client(r).String(), s.opts.Clock()); wait > 0 {
		return &refusal{http.StatusTooManyRequests, "too many sign-ins were begun from your address: wait a little", wait}
	}
	data, err := json.Marshal(why)
	if err != nil {
		return err
	}
	before, _ := s.onwardCookie(r)
	if len(data) > maxErrand {
		return refuse(http.StatusBadRequest, "the names of repositories are too long together: * stands for any characters")
	}
	started, err := s.opts.OAuth.Begin(r.Context(), oauth.Begin{Account: account, Keep: keep, Data: data, Browser: before})
	if err != nil {
		return err
	}
	if u, err := url.Parse(started.URL); err != nil || len(started.URL) > maxOnward || u.Host == "" {
		return refuse(http.StatusBadRequest, "the account's server gave no address that a browser could be sent to")
	}
	http.SetCookie(w, &http.Cookie{
		Name:  websession.CookieName(loginCookie, s.secure()),
		Value: started.Browser + "." + base64.RawURLEncoding.EncodeToString([]byte(started.URL)),
		Path:  "/", MaxAge: max(1, int(started.Expires.Sub(s.opts.Clock())/time.Second)),
		Secure: s.secure(), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	http.Redirect(w, r, "/login/go", http.StatusSeeOther)
	return nil
}

// onwardCookie returns what begin kept in a browser: the secret that belongs to the sign-in, and where to go.
func (s *Site) onwardCookie(r *http.Request) (browser, address string) {
	c, err := r.Cookie(websession.CookieName(loginCookie, s.secure()))
	if err != nil {
		return "", ""
	}
	browser, encoded, _ := strings.Cut(c.Value, ".")
	b, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return browser, ""
	}
	return browser, string(b)
}

// onward is the page between: a form that is posted may not lead to another host, a page that was got may.
func (s *Site) onward(w http.ResponseWriter, r *http.Request) {
	_, address := s.onwardCookie(r)
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return
	}
	s.pages.Show(w, r, http.StatusOK, "onward", webui.Page{
		Title: "On to " + u.Host, Account: s.account(w, r), Onward: address, Data: struct{ Host, URL string }{u.Host, address},
	})
}

// callback is where the account's server sends the browser back to.
func (s *Site) callback(w http.ResponseWriter, r *http.Request) {
	if s.opts.OAuth == nil {
		s.ui.NotFound(w, r, s.account(w, r))
		return
	}
	again := webui.Link{Text: "Sign in", URL: "/login"}
	browser, _ := s.onwardCookie(r)
	done, err := s.opts.OAuth.Finish(r.Context(), r.URL.Query(), browser)
	if err != nil {
		s.fail(w, r, s.account(w, r), err, again)
		return
	}
	var e errand
	if err := json.Unmarshal(done.Data, &e); err != nil {
		s.unused(r, done)
		s.fail(w, r, "", err, again)
		return
	}
	if e.Kind == errandLogin {
		if err := s.signInBrowser(w, r, done.Grant.DID, done.Grant.ID); err != nil {
			s.unused(r, done)
			s.fail(w, r, "", err, again)
			return
		}
		http.Redirect(w, r, localPath(e.Next, "/settings/access"), http.StatusSeeOther)
		return
	}
	who, err := s.asker(w, r, e, done.Grant.DID)
	if err != nil {
		s.unused(r, done)
		s.fail(w, r, s.account(w, r), err, again)
		return
	}
	if !s.run(w, r, who, e, done.Grant.ID) {
		s.unused(r, done)
	}
}

// asker returns the browser session that an errand is of: a grant for a device or robot counts there alone, and for its account.
func (s *Site) asker(w http.ResponseWriter, r *http.Request, e errand, did string) (*websession.Session, error) {
	who, err := s.sessions.Get(w, r)
	switch {
	case err != nil:
		return nil, err
	case who == nil || who.ID != e.By:
		return nil, refuse(http.StatusForbidden,
			"this browser was signed in anew, or signed out, meanwhile. Nothing was changed: sign in and try again")
	case who.DID != did:
		return nil, refuse(http.StatusForbidden,
			"at your account's server you are signed in to another account than here. Nothing was changed")
	}
	return who, nil
}

// ask gets a grant for an errand of somebody who is signed in, and runs it: at once where the browser acts by an app password, else when
// the account's server has sent the browser back.
func (s *Site) ask(w http.ResponseWriter, r *http.Request, who *websession.Session, e errand) error {
	if s.opts.OAuth == nil || !strings.HasPrefix(who.Grant, oauthPrefix) {
		s.run(w, r, who, e, who.Grant)
		return nil
	}
	e.By = who.ID
	return s.begin(w, r, who.DID, true, e)
}

// oauthPrefix begins the ids of grants; others are sessions of app passwords.
const oauthPrefix = "oauth-"

// run does an errand by a grant, shows a page, and reports whether the grant is used.
func (s *Site) run(w http.ResponseWriter, r *http.Request, who *websession.Session, e errand, grant string) bool {
	switch {
	case e.Kind == errandDevice && s.opts.Devices != nil:
		return s.approve(w, r, who, e.Code, grant)
	case e.Kind == errandRobot && s.opts.Robots != nil && e.Spec != nil:
		return s.newRobot(w, r, who, *e.Spec, grant)
	case e.Kind == errandRenew && s.opts.Robots != nil:
		return s.renewed(w, r, who, e.ID, e.Name, grant)
	}
	s.ui.NotFound(w, r, accountName(who))
	return false
}

// unused ends a grant that nothing came of.
func (s *Site) unused(r *http.Request, done *oauth.Finished) {
	if s.opts.End != nil {
		s.opts.End(context.WithoutCancel(r.Context()), done.Grant.DID, done.Grant.ID)
	}
}
