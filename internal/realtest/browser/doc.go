// Package browser drives a headless Chromium, for tests of pages and of signing in at the reference PDS. It is for tests only.
//
//	b := browser.New(t, browser.Options{})
//	page := b.Page(t)                       // a person: nobody else has its cookies
//	page.Open(app + "/login")
//	page.Fill("input[name=account]", alice.Handle)
//	page.Press("Sign in")
//	page.SignIn(alice)                      // at her PDS, up to the page that asks for consent
//	page.Consent()                          // or page.Deny()
//	page.WaitURL("the callback", func(u *url.URL) bool { return u.Host == appHost })
//	page.Check("after-signing-in")          // axe-core in light and dark, nothing wider than a phone, nothing in the console
//
// Methods of a Page wait for what they need, by looking again, and fail the test with what the page shows when it does not come.
//
// With the variable ATCR_SHOTS, a folder, [Page.Shoot] and [Page.Check] leave pictures there: NAME-light.png, NAME-dark.png and
// NAME-phone.png, which is 390 pixels wide; and a page that failed a test leaves failed-TEST.png.
//
// Which installed programs it needs and what happens without them is as in package realtest.
package browser
