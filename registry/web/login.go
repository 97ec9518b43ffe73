package web

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/internal/websession"
	"github.com/atcr-dev/atcr/internal/webui"
)

// loginPage is the data of /login.
type loginPage struct {
	Account, Next string
	OAuth         bool // by the account's server
	Password      bool // by app password
	Open          bool // the form for app passwords
	For           string
}

func (s *Site) loginData(account, next string) loginPage {
	d := loginPage{Account: account, Next: localPath(next, ""), OAuth: s.opts.OAuth != nil, Password: s.opts.Passwords != nil}
	d.Open = !d.OAuth
	switch path, _, _ := strings.Cut(d.Next, "?"); path {
	case "/device":
		d.For = "Sign in to approve your device."
	case "/settings/access":
		d.For = "Sign in to see what may act for you."
	}
	return d
}

func (s *Site) login(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p := webui.Page{Title: "Sign in", Account: s.account(w, r), Data: s.loginData(q.Get("account"), q.Get("next"))}
	if q.Get("done") == "signed-out" {
		p.Notice = "You are signed out."
	}
	s.pages.Show(w, r, http.StatusOK, "login", p)
}

// signIn takes the form of /login.
func (s *Site) signIn(w http.ResponseWriter, r *http.Request) {
	if !s.form(w, r, nil) {
		return
	}
	account := strings.TrimPrefix(strings.TrimSpace(r.PostForm.Get("account")), "@")
	data := s.loginData(account, r.PostForm.Get("next"))
	again := func(err error) {
		p := webui.Page{Title: "Sign in", Data: data}
		var status int
		status, p.Trouble = s.tell(w, r, err)
		s.pages.Show(w, r, status, "login", p)
	}
	byPassword := r.PostForm.Has("password")
	data.Open = data.Open || byPassword
	switch {
	case account == "":
		again(refuse(http.StatusBadRequest, "write your handle, such as alice.bsky.social"))
	case byPassword && s.opts.Passwords != nil:
		if err := s.signInByPassword(w, r, account, r.PostForm.Get("password")); err != nil {
			again(err)
			return
		}
		http.Redirect(w, r, localPath(data.Next, "/settings/access"), http.StatusSeeOther)
	case !byPassword && s.opts.OAuth != nil:
		err := s.begin(w, r, account, false, errand{Kind: errandLogin, Next: data.Next})
		if err != nil {
			data.Open = data.Open || unsupported(err)
			again(err)
		}
	default:
		again(refuse(http.StatusBadRequest, "this server does not sign people in that way"))
	}
}

func (s *Site) signInByPassword(w http.ResponseWriter, r *http.Request, account, password string) error {
	did, session, err := s.opts.Passwords.SignIn(r.Context(), account, password, s.client(r))
	if err != nil {
		return err
	}
	return s.signInBrowser(w, r, did, session)
}

// signInBrowser gives a browser a session that acts by a grant.
func (s *Site) signInBrowser(w http.ResponseWriter, r *http.Request, did, grant string) error {
	_, err := s.sessions.Begin(w, r, websession.Session{DID: did, Handle: s.handle(r.Context(), did), Grant: grant})
	return err
}

// handle is an account's, empty when it has none that can be found now.
func (s *Site) handle(ctx context.Context, did string) string {
	id, err := syntax.ParseDID(did)
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, handleWithin)
	defer cancel()
	acc, err := s.opts.Directory.LookupDID(ctx, id)
	if err != nil || acc.Handle.IsInvalidHandle() {
		return ""
	}
	return acc.Handle.String()
}

const handleWithin = 5 * time.Second

func (s *Site) signOut(w http.ResponseWriter, r *http.Request) {
	if err := s.sessions.SignOut(w, r); err != nil {
		s.fail(w, r, "", err)
		return
	}
	http.Redirect(w, r, "/login?done=signed-out", http.StatusSeeOther)
}

// sessionEnded ends what a browser's session acted by.
func (s *Site) sessionEnded(ctx context.Context, e websession.Session) {
	if s.opts.End != nil && e.Grant != "" {
		s.opts.End(ctx, e.DID, e.Grant)
	}
}

// home says what this is.
func (s *Site) home(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if s.base != nil {
		host = s.base.Host
	}
	who, err := s.sessions.Get(w, r)
	if err != nil {
		s.fail(w, r, "", err)
		return
	}
	data := struct{ Host, Handle string }{host, "alice.example.com"}
	p := webui.Page{Title: s.opts.Name, Data: &data}
	if who != nil {
		p.Account = accountName(who)
		if who.Handle != "" {
			data.Handle = who.Handle
		}
	}
	s.pages.Show(w, r, http.StatusOK, "home", p)
}

// legal shows a page of text.
func (s *Site) legal(name, title string) http.HandlerFunc {
	data := struct{ Site, Company, Jurisdiction string }{s.opts.Name, s.opts.Company, s.opts.Jurisdiction}
	return func(w http.ResponseWriter, r *http.Request) {
		s.pages.Show(w, r, http.StatusOK, name, webui.Page{Title: title, Account: s.account(w, r), Data: data})
	}
}

// withNotice is an address of this host with a word that its page turns into a sentence.
func withNotice(path, done string) string { return path + "?" + url.Values{"done": {done}}.Encode() }
