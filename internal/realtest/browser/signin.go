package browser

import (
	"strconv"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// The words of the reference PDS's pages.
const (
	allow = "Authorize"
	deny  = "Deny access"
)

// SignIn signs in as an account on the reference PDS's page, to which the application has sent the browser, and waits for the page that
// asks for consent. Where the PDS remembers the person, nothing is asked.
func (p *Page) SignIn(a realtest.Account) {
	p.t.Helper()
	p.signIn(a, named(allow))
	p.waitForConsent()
}

// signIn signs in on a page of the PDS, which then shows what is wanted, unless it does at once.
func (p *Page) signIn(a realtest.Account, wanted string) {
	p.t.Helper()
	const (
		password = "input[type=password]"
		name     = "input[name=username]:not([readonly]):not([disabled])"
		welcome  = "Sign in" // also what the form's own button says
	)
	p.wait("the PDS's page", "location.origin === "+quote(a.PDS)+" && ("+wanted+" || "+element(password)+" || "+named(welcome)+")")
	is := func(expression string) (ok bool) { p.Eval("!!"+expression, &ok); return ok }
	if is("(" + wanted + ")") {
		return
	}
	if !is(element(password)) {
		p.Press(welcome)
		p.WaitFor(password)
	}
	if is(element(name)) { // unless the application has named the account
		p.Fill(name, a.Handle)
	}
	p.Fill(password, a.Password)
	p.Click("button[type=submit]")
}

func (p *Page) waitForConsent() {
	p.t.Helper()
	p.wait("the page that asks for consent", named(allow)+" && "+named(deny))
}

// Consent presses "Authorize" there.
func (p *Page) Consent() {
	p.t.Helper()
	p.waitForConsent()
	p.Press(allow)
}

// Deny presses "Deny access".
func (p *Page) Deny() {
	p.t.Helper()
	p.waitForConsent()
	p.Press(deny)
}

// Apps are the applications that can use the account, as its page at the PDS lists them, signing in there if need be: how many.
func (p *Page) Apps(a realtest.Account) (count int) {
	p.t.Helper()
	const listed = "document.body.innerText.includes('Apps that can use your account')"
	p.Open(a.PDS + "/account")
	p.signIn(a, named("Apps"))
	p.Press("Apps")
	p.wait("the list of applications", listed)
	p.Eval(details+".length", &count)
	return count
}

// RevokeApps ends all of them there.
func (p *Page) RevokeApps(a realtest.Account) {
	p.t.Helper()
	for left := p.Apps(a); left > 0; left-- {
		p.Press("Details")
		p.Press("Revoke access")
		p.wait("an application to go", details+".length === "+strconv.Itoa(left-1)+" && !"+named("Revoke access"))
	}
}

const details = "[...document.querySelectorAll('button')].filter(e => e.checkVisibility() && e.innerText.trim() === 'Details')"
