package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/atcr-dev/atcr/internal/realtest"
)

const (
	width, height = 1280, 900
	phoneWidth    = 390
	phoneHeight   = 844

	limit = time.Minute // for what a page is waited for: a busy machine's
)

// A Page is one tab of a person who shares no cookie with anybody. It belongs to one test and is used by one goroutine at a time.
type Page struct {
	t   testing.TB
	ctx context.Context

	mu      sync.Mutex
	origin  string   // of the page
	console []string // errors and warnings since the last Open or Complaints, of that origin
}

// Page opens a tab, with cookies of its own; it closes when the test ends.
func (b *Browser) Page(t testing.TB) *Page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	return newPage(t, ctx, cancel)
}

// Tab opens another tab of the same person.
func (p *Page) Tab() *Page {
	p.t.Helper()
	ctx, cancel := chromedp.NewContext(p.ctx)
	return newPage(p.t, ctx, cancel)
}

func newPage(t testing.TB, ctx context.Context, cancel func()) *Page {
	t.Helper()
	p := &Page{t: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		cancel()
		t.Fatalf("browser: opening a tab: %v", err)
	}
	if err := chromedp.Listen(ctx, p.heard); err != nil { // Console would be later than the answer to what is asked next
		cancel()
		t.Fatalf("browser: listening to a tab: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			p.report("failed-" + strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()))
		}
		cancel()
	})
	p.setView("light", width, height)
	return p
}

// heard keeps what the console shows of errors and warnings.
func (p *Page) heard(event any) {
	var kind, text string
	switch e := event.(type) {
	case *page.EventFrameNavigated:
		if u, err := url.Parse(e.Frame.URL); err == nil && e.Frame.ParentID == "" {
			p.mu.Lock()
			defer p.mu.Unlock()
			if origin := u.Scheme + "://" + u.Host; origin != p.origin {
				p.origin, p.console = origin, nil // what the PDS's pages complain of is not ours
			}
		}
		return
	case *runtime.EventConsoleAPICalled:
		kind = string(e.Type)
		for _, arg := range e.Args {
			text += " " + arg.Description + string(arg.Value)
		}
	case *runtime.EventExceptionThrown:
		kind, text = "error", " "+e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
	case *log.EventEntryAdded:
		kind, text = string(e.Entry.Level), " "+e.Entry.Text+" "+e.Entry.URL
	}
	if kind != "error" && kind != "warning" && kind != "assert" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.console = append(p.console, kind+":"+text)
}

// report logs what the page shows.
func (p *Page) report(shot string) {
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + (document.body ? document.body.innerText : "")`))
	p.t.Logf("browser: the page at the end (%v): %.2000s\nconsole: %q", err, text, p.Complaints())
	if png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100)); err == nil {
		_ = saveShot(shot, png)
	}
}

// do runs an action, and fails the test when it fails or takes too long.
func (p *Page) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.t.Fatalf("browser: %s: %v", what, err)
	}
}

// Open goes to an address and waits until it has loaded. It returns the status of the answer.
func (p *Page) Open(address string) (status int) {
	p.t.Helper()
	p.Complaints()
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	resp, err := chromedp.Run(ctx, chromedp.NavigateResponse(address))
	if err != nil {
		p.t.Fatalf("browser: opening %s: %v", address, err)
	}
	if resp == nil {
		return 0
	}
	return int(resp.Status)
}

// Eval evaluates an expression of JavaScript, waits for it if it is a promise, and decodes its value into out, which may be nil.
func (p *Page) Eval(expression string, out any) {
	p.t.Helper()
	if err := p.eval(expression, out); err != nil {
		p.t.Fatalf("browser: evaluating %.200s: %v", expression, err)
	}
}

func (p *Page) eval(expression string, out any) error {
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	raw, err := chromedp.Run(ctx, chromedp.Evaluate[[]byte](expression, chromedp.EvalAwaitPromise, chromedp.EvalAsValue))
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(raw, out)
}

// wait evaluates an expression until it is true. A page that is left meanwhile is no error.
func (p *Page) wait(what, expression string) {
	p.t.Helper()
	err := realtest.WaitFor(limit, func() error {
		var ok bool
		if err := p.eval("!!("+expression+")", &ok); err != nil {
			return err
		}
		if !ok {
			return errors.New("it is not there")
		}
		return nil
	})
	if err != nil {
		p.t.Fatalf("browser: waiting for %s: %v", what, err)
	}
}

// URL is the page's address.
func (p *Page) URL() string {
	p.t.Helper()
	var address string
	p.Eval("location.href", &address)
	return address
}

// Text is what can be read on the page.
func (p *Page) Text() string {
	p.t.Helper()
	var text string
	p.Eval(`document.body ? document.body.innerText : ""`, &text)
	return text
}

// WaitText waits until part can be read on the page.
func (p *Page) WaitText(part string) {
	p.t.Helper()
	p.wait(fmt.Sprintf("the words %q", part), "document.body && document.body.innerText.includes("+quote(part)+")")
}

// WaitFor waits until an element is there that can be seen.
func (p *Page) WaitFor(css string) {
	p.t.Helper()
	p.wait(css, "document.readyState !== 'loading' && "+element(css))
}

// WaitURL waits until the page has loaded at an address that is the right one, and returns it.
func (p *Page) WaitURL(what string, right func(*url.URL) bool) *url.URL {
	p.t.Helper()
	var u *url.URL
	err := realtest.WaitFor(limit, func() error {
		var address string
		if err := p.eval("document.readyState === 'loading' ? '' : location.href", &address); err != nil {
			return err
		}
		var err error
		if u, err = url.Parse(address); err != nil {
			return err
		}
		if address == "" || !right(u) {
			return fmt.Errorf("the page is at %s", address)
		}
		return nil
	})
	if err != nil {
		p.t.Fatalf("browser: waiting for %s: %v", what, err)
	}
	return u
}

// Fill types a text into a field, in place of what is there.
func (p *Page) Fill(css, text string) {
	p.t.Helper()
	p.WaitFor(css)
	p.wait(css+" to take the focus", "(e => { e.focus(); e.select(); return document.activeElement === e })("+element(css)+")")
	p.do("typing", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, input.InsertText, input.InsertTextParams{Text: text})
		return err
	}))
	p.wait(css+" to have the text", element(css)+".value === "+quote(text))
}

// Click clicks on the first element of css that can be seen.
func (p *Page) Click(css string) {
	p.t.Helper()
	p.wait(css, click(element(css)))
}

// Press clicks on the button or link that has these words, or this label.
func (p *Page) Press(words string) {
	p.t.Helper()
	p.wait(fmt.Sprintf("a button or link %q", words), click(named(words)))
}

// Has reports whether there is a button or link with these words now.
func (p *Page) Has(words string) bool {
	p.t.Helper()
	var ok bool
	p.Eval("!!"+named(words), &ok)
	return ok
}

// element is an expression: the first element of css that can be seen.
func element(css string) string {
	return "[...document.querySelectorAll(" + quote(css) + ")].find(e => e.checkVisibility())"
}

// named is an expression: the button or link of these words.
func named(words string) string {
	return "[...document.querySelectorAll('a[href], button, summary, input[type=submit], input[type=button], [role=button]')].find(e => " +
		"e.checkVisibility() && [e.innerText, e.value, e.ariaLabel].some(s => (s || '').trim() === " + quote(words) + "))"
}

// click is an expression that clicks on an element, if it is there, can be used and its page has been read, and then is true.
func click(element string) string {
	return "document.readyState !== 'loading' && (e => { if (e && !e.disabled) { e.click(); return true } })(" + element + ")"
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string has no error
	return string(b)
}

// Cookies are those that the person's browser would send to an address.
func (p *Page) Cookies(address string) []*http.Cookie {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, limit)
	defer cancel()
	got, err := chromedp.Call(ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{address}})
	if err != nil {
		p.t.Fatalf("browser: cookies for %s: %v", address, err)
	}
	var cookies []*http.Cookie
	for _, c := range got.Cookies {
		cookies = append(cookies, &http.Cookie{
			Name: c.Name, Value: c.Value, Path: c.Path, Domain: c.Domain, Secure: c.Secure, HttpOnly: c.HTTPOnly,
		})
	}
	return cookies
}

// Scripts turns the page's JavaScript off, or on again, from the next page on. The PDS's own pages need it.
func (p *Page) Scripts(on bool) {
	p.t.Helper()
	p.do("turning scripts on or off", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
		return err
	}))
}

// Complaints are the errors, warnings and breaches of the content security policy that the console has shown since Open or Complaints
// was called, or since the browser came from another host.
func (p *Page) Complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.console
	p.console = nil
	return c
}

func (p *Page) setView(scheme string, w, h int64) {
	p.t.Helper()
	p.do("changing the view", chromedp.EmulateViewport(w, h), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
			},
		})
		return err
	}))
	// What moves comes to its end: a color that is on its way is neither of the two.
	p.Eval("document.getAnimations().forEach(a => { try { a.finish() } catch { } })", nil)
}
