package webui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
)

//go:embed layout.html error.html static
var files embed.FS

// policy is the Content-Security-Policy of every page.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// Link is an entry of the header or footer.
type Link struct{ Text, URL string }

// Options configures [New]. Name is required.
type Options struct {
	// Name is the application's, in the header and in titles.
	Name string
	// SignedIn and SignedOut are the header's links for who is signed in and who isn't; Footer's are for both.
	SignedIn, SignedOut, Footer []Link
	// SignOut is the address that the header's sign-out is posted to; empty: there is none.
	SignOut string
	// Origin is where browsers reach the pages, when that is fixed ("https://registry.example.com"): forms from there are taken although
	// a proxy in front changes Host.
	Origin string
	Log    *slog.Logger // nil: slog.Default()
}

// UI is the look of an application. Make one with [New]; it is safe for concurrent use.
type UI struct {
	opts   Options
	css    string // address of the style sheet, with its hash in it
	layout *template.Template
	errors *Pages
	forms  *http.CrossOriginProtection
}

// New returns the look of an application.
func New(o Options) (*UI, error) {
	if o.Name == "" {
		return nil, errors.New("webui: Options.Name is missing: write the application's name, as people are to see it")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	css, err := files.ReadFile("static/ui.css")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(css)
	u := &UI{opts: o, css: "/static/ui." + hex.EncodeToString(sum[:6]) + ".css", forms: http.NewCrossOriginProtection()}
	if u.layout, err = template.New("layout.html").ParseFS(files, "layout.html"); err != nil {
		return nil, err
	}
	if u.errors, err = u.Parse(files, "."); err != nil {
		return nil, err
	}
	if o.Origin != "" {
		if err := u.forms.AddTrustedOrigin(o.Origin); err != nil {
			return nil, fmt.Errorf("webui: Options.Origin: %w", err)
		}
	}
	u.forms.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.Fail(w, r, Problem{
			Status: http.StatusForbidden, Title: "This did not come from here",
			Text: "The form that was sent is another site's, or your browser does not say whose it is. Nothing was changed.",
		})
	}))
	return u, nil
}

// Handler serves the style sheet and icons under /static/ and /favicon.ico, and everything else by next, with the headers of a page,
// and for what is posted only when it comes from a page of the same origin.
func (u *UI) Handler(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+u.css, asset("static/ui.css", "text/css; charset=utf-8", "public, max-age=31536000, immutable"))
	mux.HandleFunc("GET /static/icon.svg", asset("static/icon.svg", "image/svg+xml", "public, max-age=86400"))
	mux.HandleFunc("GET /static/icon.png", asset("static/icon.png", "image/png", "public, max-age=86400"))
	mux.HandleFunc("GET /favicon.ico", asset("static/icon.png", "image/png", "public, max-age=86400"))
	mux.Handle("/", u.forms.Handler(next))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		harden(w.Header())
		mux.ServeHTTP(w, r)
	})
}

func harden(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would take the Origin from our own forms
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

func asset(name, contentType, cache string) http.HandlerFunc {
	b, err := files.ReadFile(name)
	if err != nil {
		panic("webui: " + err.Error()) // it is embedded
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Cache-Control", cache)
		h.Set("Cross-Origin-Resource-Policy", "cross-origin") // account's servers show the icon where they ask for consent
		_, _ = w.Write(b)
	}
}

// Page is one page's content and what stands around it.
type Page struct {
	Title string
	// Account is who is signed in, as people know it; empty is nobody.
	Account string
	// Notice is said above the content: what a form has done. Trouble is, too: why it has done nothing.
	Notice, Trouble string
	// Onward is where the browser goes by itself, once the page is there: an http or https URL. The page should link there as well.
	Onward string
	// Data is for the page's template, as .Data.
	Data any
}

// view is what the layout sees.
type view struct {
	Page
	Site, CSS, SignOut string
	Header, Footer     []Link
}

// Pages are an application's, by name.
type Pages struct {
	ui     *UI
	byName map[string]*template.Template
}

// Parse reads the pages of a folder: each file NAME.html becomes the page NAME. It defines the template "main", in which the dot has the
// fields of [Page].
func (u *UI) Parse(fsys fs.FS, dir string) (*Pages, error) {
	names, err := fs.Glob(fsys, path.Join(dir, "*.html"))
	if err != nil {
		return nil, fmt.Errorf("webui: pages in %q: %w", dir, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("webui: there are no pages (*.html) in %q", dir)
	}
	p := &Pages{ui: u, byName: map[string]*template.Template{}}
	for _, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "layout" {
			continue
		}
		t, err := u.layout.Clone()
		if err == nil {
			t, err = t.Funcs(functions).ParseFS(fsys, file)
		}
		if err != nil {
			return nil, fmt.Errorf("webui: page %s: %w", name, err)
		}
		if t.Lookup("main") == nil {
			return nil, fmt.Errorf("webui: page %s does not define the template %q", name, "main")
		}
		p.byName[name] = t
	}
	return p, nil
}

// Show writes a page. It is written whole or not at all: a template that fails is logged, and a page says so in its place.
func (p *Pages) Show(w http.ResponseWriter, r *http.Request, status int, name string, page Page) {
	b, err := p.render(name, page)
	if err != nil {
		p.ui.opts.Log.Error("a page can't be shown", "page", name, "err", err)
		status, page.Onward = http.StatusInternalServerError, ""
		if b, err = p.ui.errors.render("error", internal.page(page.Account)); err != nil {
			http.Error(w, internal.Text, status)
			return
		}
	}
	h := w.Header()
	harden(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	if page.Onward != "" {
		h.Set("Refresh", "0;url="+page.Onward)
	}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(b)
	}
}

func (p *Pages) render(name string, page Page) ([]byte, error) {
	t := p.byName[name]
	if t == nil {
		return nil, fmt.Errorf("there is no page %q", name)
	}
	if page.Onward != "" {
		if u, err := url.Parse(page.Onward); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("%.200q is no address to go on to", page.Onward)
		}
	}
	o := &p.ui.opts
	v := view{Page: page, Site: o.Name, CSS: p.ui.css, SignOut: o.SignOut, Header: o.SignedOut, Footer: o.Footer}
	if page.Account != "" {
		v.Header = o.SignedIn
	}
	var b bytes.Buffer
	err := t.ExecuteTemplate(&b, "layout.html", v)
	return b.Bytes(), err
}

// Problem is what went wrong, for people.
type Problem struct {
	Status  int    // 0 is 500
	Title   string // what happened, in a few words
	Text    string // why, and what to do
	Account string // see Page
	// Next is where to go from there; none: the first page.
	Next Link
}

var internal = Problem{
	Title: "Something went wrong here",
	Text:  "The server could not do this. It is not your fault; whoever runs it finds the cause in its log. Try again later.",
}

func (p Problem) page(account string) Page {
	if p.Next.URL == "" {
		p.Next = Link{"Go to the first page", "/"}
	}
	return Page{Title: p.Title, Account: account, Data: p}
}

// Fail shows a page that says what went wrong.
func (u *UI) Fail(w http.ResponseWriter, r *http.Request, p Problem) {
	if p.Status == 0 {
		p.Status = http.StatusInternalServerError
	}
	if p.Title == "" {
		p.Title, p.Text = internal.Title, internal.Text
	}
	u.errors.Show(w, r, p.Status, "error", p.page(p.Account))
}

// NotFound is the page for addresses that are none.
func (u *UI) NotFound(w http.ResponseWriter, r *http.Request, account string) {
	u.Fail(w, r, Problem{
		Status: http.StatusNotFound, Title: "There is no such page", Account: account,
		Text: "The address may be misspelt, or what was there has gone.",
	})
}
