package web

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/limit"
	"github.com/atcr-dev/atcr/internal/websession"
	"github.com/atcr-dev/atcr/internal/webui"
	"github.com/atcr-dev/atcr/sqldb"
)

//go:embed pages
var files embed.FS

const (
	maxForm = 16 << 10
	// Sign-ins that one client begins at once, and more of them in a second: each asks servers of others' choice.
	beginBurst      = 20
	beginsPerSecond = 0.2
)

// Passwords signs people in by app password.
type Passwords interface {
	// SignIn returns the account, and the session at its server that it acts by. client is whose guesses are counted.
	SignIn(ctx context.Context, user, password string, client netip.Addr) (did, session string, err error)
}

// Options configures [New]. DB and Directory are required.
type Options struct {
	// DB keeps the sessions of browsers, in the table web_session that New migrates.
	DB *sqldb.DB
	// Directory says which handle an account has.
	Directory identity.Directory
	// OAuth signs people in at their servers; nil: nobody is.
	OAuth OAuth
	// Passwords signs people in by app password; nil: the form is not there.
	Passwords Passwords
	// End ends what a browser acted by at the account's server, a grant or session, unless something else acts by it, too; it returns
	// within seconds. nil: nothing is ended there.
	End func(ctx context.Context, did, grant string)

	Devices Devices // nil: none
	Robots  Robots  // nil: none
	Logins  Logins  // nil: none

	// BaseURL is where browsers reach the pages; empty: by loopback, or ListenAddr (host:port).
	BaseURL, ListenAddr string
	// Name is the application's, "" is "AT Container Registry".
	Name string
	// Company runs it, by the law of Jurisdiction: for /privacy and /terms.
	Company, Jurisdiction string

	Clock func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: slog.Default()
}

// Site is the pages. Make one with [New]; safe for concurrent use.
type Site struct {
	opts     Options
	base     *url.URL // nil: none is fixed
	ui       *webui.UI
	pages    *webui.Pages
	sessions *websession.Sessions
	begins   *limit.Rates
	loopback netip.Addr // where a local application's pages are
	handler  http.Handler
}

// New migrates the table of browsers' sessions, and asks nobody.
func New(ctx context.Context, o Options) (*Site, error) {
	switch {
	case o.DB == nil:
		return nil, errors.New("web: Options.DB is missing: package sqldb/sqlite opens one")
	case o.Directory == nil:
		return nil, errors.New("web: Options.Directory is missing: identity.NewResolver makes one")
	}
	o.Name = cmp.Or(o.Name, "AT Container Registry")
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Site{opts: o, begins: limit.NewRates(beginsPerSecond, beginBurst), loopback: ip4}
	if o.BaseURL != "" {
		var err error
		if s.base, err = url.Parse(o.BaseURL); err != nil || s.base.Host == "" {
			return nil, fmt.Errorf("web: Options.BaseURL %q: write scheme and host alone, like https://registry.example.com", o.BaseURL)
		}
	}
	if u, err := url.Parse(cmp.Or(o.BaseURL, "http://"+o.ListenAddr)); err == nil && u.Hostname() == "::1" {
		s.loopback = netip.IPv6Loopback()
	}
	var err error
	s.ui, err = webui.New(webui.Options{
		Name: o.Name, SignedOut: []webui.Link{{Text: "Sign in", URL: "/login"}},
		SignedIn: []webui.Link{{Text: "Access", URL: "/settings/access"}}, SignOut: "/logout",
		Footer: []webui.Link{{Text: "Privacy", URL: "/privacy"}, {Text: "Terms", URL: "/terms"}}, Origin: o.BaseURL, Log: o.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	if s.pages, err = s.ui.Parse(files, "pages"); err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	s.sessions, err = websession.New(ctx, websession.Options{
		DB: o.DB, Name: cookieName, Secure: s.secure(), Ended: s.sessionEnded, Clock: o.Clock, Log: o.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	s.handler = s.ui.Handler(s.onHost(s.routes()))
	return s, nil
}

// Migrate makes the table web_session in a database. [New] does it by itself.
func Migrate(ctx context.Context, db *sqldb.DB) error { return websession.Migrate(ctx, db) }

const cookieName = "atcr"

func (s *Site) secure() bool { return s.base != nil && s.base.Scheme == "https" }

// Handler serves the pages, and a page for every address that is none. Mount it at "/", and at /auth/oauth/callback.
func (s *Site) Handler() http.Handler { return s.handler }

// Run ends the sessions of browsers that are not used, until ctx ends.
func (s *Site) Run(ctx context.Context) error { return s.sessions.Run(ctx) }

func (s *Site) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /login", s.login)
	mux.HandleFunc("POST /login", s.signIn)
	mux.HandleFunc("GET /login/go", s.onward)
	mux.HandleFunc("GET /auth/oauth/callback", s.callback)
	mux.HandleFunc("POST /logout", s.signOut)
	mux.HandleFunc("GET /device", s.signedIn(s.device))
	mux.HandleFunc("POST /device", s.signedIn(s.decideDevice))
	mux.HandleFunc("GET /settings/access", s.signedIn(s.access))
	mux.HandleFunc("POST /settings/access/browsers/end", s.signedIn(s.endBrowser))
	mux.HandleFunc("POST /settings/access/devices/end", s.signedIn(s.endDevice))
	mux.HandleFunc("POST /settings/access/logins/end", s.signedIn(s.endLogin))
	mux.HandleFunc("POST /settings/access/robots/make", s.signedIn(s.makeRobot))
	mux.HandleFunc("POST /settings/access/robots/renew", s.signedIn(s.renewRobot))
	mux.HandleFunc("POST /settings/access/robots/end", s.signedIn(s.endRobot))
	mux.HandleFunc("GET /privacy", s.legal("privacy", "Privacy"))
	mux.HandleFunc("GET /terms", s.legal("terms", "Terms"))
	mux.HandleFunc("/", s.other(mux))
	return mux
}

// other is for what no page is at: of a page's address the method was wrong.
func (s *Site) other(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			probe := &http.Request{Method: method, Host: r.Host, URL: r.URL}
			if _, pattern := mux.Handler(probe); pattern != "/" {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			s.ui.NotFound(w, r, s.account(w, r))
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		s.ui.Fail(w, r, webui.Problem{
			Status: http.StatusMethodNotAllowed, Title: "That is not how this page is asked for",
			Text: "A form of the page that you came from leads here; an address typed by hand does not.", Account: s.account(w, r),
		})
	}
}

// account is who is signed in, for the header of a page that doesn't need it.
func (s *Site) account(w http.ResponseWriter, r *http.Request) string {
	who, err := s.sessions.Get(w, r)
	if err != nil || who == nil {
		return ""
	}
	return accountName(who)
}

// accountName is how an account is shown: the handle, else the DID.
func accountName(who *websession.Session) string { return cmp.Or(who.Handle, who.DID) }

type page func(w http.ResponseWriter, r *http.Request, who *websession.Session)

// signedIn is for pages that need an account: others are sent to /login, and back from there.
func (s *Site) signedIn(next page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := s.sessions.Get(w, r)
		if err != nil {
			s.fail(w, r, "", err)
			return
		}
		if who == nil {
			back := "/settings/access"
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				back = r.URL.RequestURI()
			}
			http.Redirect(w, r, "/login?"+url.Values{"next": {back}}.Encode(), http.StatusSeeOther)
			return
		}
		if !s.form(w, r, who) {
			return
		}
		next(w, r, who)
	}
}

// form reads a form that was posted, and reports whether it could.
func (s *Site) form(w http.ResponseWriter, r *http.Request, who *websession.Session) bool {
	if r.Method != http.MethodPost {
		return true
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		p := webui.Problem{
			Status: http.StatusBadRequest, Title: "The form can't be read",
			Text: fmt.Sprintf("It is broken, or longer than %d bytes. Nothing was changed.", maxForm),
		}
		if who != nil {
			p.Account = accountName(who)
		}
		s.ui.Fail(w, r, p)
		return false
	}
	return true
}

// onHost leads browsers to the host that OAuth sends them back to, and refuses hosts that this server can't know to be its own.
func (s *Site) onHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.base != nil && !isLoopback(s.base.Hostname()) {
			next.ServeHTTP(w, r) // a proxy in front may send any Host
			return
		}
		host := strings.ToLower(r.Host)
		u, err := url.Parse("http://" + host)
		switch {
		case err != nil || u.Host != host || u.Hostname() == "",
			!isLoopback(u.Hostname()) && host != strings.ToLower(s.opts.ListenAddr):
			s.ui.Fail(w, r, webui.Problem{
				Status: http.StatusMisdirectedRequest, Title: "This server does not know itself by that name",
				Text: "Ask for it by the address that it was started with. Whoever runs it sets server.base_url to its public address.",
			})
		case !s.elsewhere(u.Hostname()):
			next.ServeHTTP(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			s.ui.Fail(w, r, webui.Problem{
				Status: http.StatusMisdirectedRequest, Title: "Ask for this page by " + s.loopback.String(),
				Text: "Signing in works by that address, and not by " + u.Hostname() + ". Nothing was changed.",
			})
		default:
			to := s.loopback.String()
			if port := u.Port(); port != "" {
				to = net.JoinHostPort(to, port)
			} else if s.loopback.Is6() {
				to = "[" + to + "]"
			}
			http.Redirect(w, r, "http://"+to+r.URL.RequestURI(), http.StatusFound)
		}
	})
}

// elsewhere reports whether a loopback host is not the one that OAuth sends browsers back to. Without OAuth either address will do.
func (s *Site) elsewhere(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return s.opts.OAuth != nil && err == nil && ip != s.loopback && (ip == ip4 || ip == netip.IPv6Loopback())
}

var ip4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// localPath returns a path of this host to go on to, or def for what is none: it comes from a query or form.
func localPath(s, def string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "" || u.Host != "" || u.Opaque != "" || !strings.HasPrefix(u.Path, "/") || len(s) > 1024 {
		return def
	}
	if !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//") || strings.ContainsAny(s, "\\\r\n\t") { // browsers read these as hosts
		return def
	}
	if u.Path == "/login" || strings.HasPrefix(u.Path, "/login/") || strings.HasPrefix(u.Path, "/auth/") || u.Path == "/logout" {
		return def
	}
	return s
}

func (s *Site) client(r *http.Request) netip.Addr { return httpx.ClientAddr(r) }
