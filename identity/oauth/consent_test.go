package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// person is somebody at the reference PDS's sign-in pages, as far as these are their own HTTP interface: the pages themselves are driven
// in a browser by the tests of the whole program.
type person struct {
	t       testing.TB
	account realtest.Account
	client  *http.Client
}

func newPerson(t testing.TB, account realtest.Account) *person { return newPersonBy(t, account, nil) }

// newPersonBy is newPerson for somebody on another host.
func newPersonBy(t testing.TB, account realtest.Account, transport http.RoundTripper) *person {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &person{t: t, account: account, client: &http.Client{
		Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// allows goes to where a sign-in sends browsers, signs in and consents, and returns the query of the callback.
func (p *person) allows(address string) url.Values { return p.visits(address, true) }

// refuses is allows with the other button.
func (p *person) refuses(address string) url.Values { return p.visits(address, false) }

func (p *person) visits(address string, allow bool) url.Values {
	p.t.Helper()
	p.get(address, "")
	u, err := url.Parse(address)
	if err != nil {
		p.t.Fatal(err)
	}
	var in struct {
		Token string `json:"ephemeralToken"`
	}
	p.post(u, "sign-in", "", map[string]any{"locale": "en", "username": p.account.Handle, "password": p.account.Password, "remember": false}, &in)
	var out struct{ URL string }
	if allow {
		p.post(u, "consent", in.Token, map[string]any{"did": p.account.DID}, &out)
	} else {
		p.post(u, "reject", in.Token, map[string]any{}, &out)
	}
	back, err := url.Parse(p.get(out.URL, address))
	if err != nil {
		p.t.Fatal(err)
	}
	return back.Query()
}

// get opens a page, from another page of the same server or from elsewhere, and returns where it redirects to.
func (p *person) get(address, from string) (location string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for name, value := range map[string]string{"Mode": "navigate", "Dest": "document", "Site": "cross-site"} {
		req.Header.Set("Sec-Fetch-"+name, value)
	}
	if from != "" {
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		req.Header.Set("Referer", from)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		b, _ := io.ReadAll(resp.Body)
		p.t.Fatalf("%s: status %d: %.2000s", address, resp.StatusCode, b)
	}
	return resp.Header.Get("Location")
}

func (p *person) post(page *url.URL, endpoint, token string, in, out any) {
	p.t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		p.t.Fatal(err)
	}
	origin := page.Scheme + "://" + page.Host
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, origin+"/@atproto/oauth-provider/~api/"+endpoint,
		bytes.NewReader(b))
	if err != nil {
		p.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Origin": origin, "Referer": page.String(), "Sec-Fetch-Mode": "same-origin",
		"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty",
	} {
		req.Header.Set(name, value)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	// The cookies are Secure, which browsers send to localhost, too, and Go's jar does not.
	secure := *page
	secure.Scheme = "https"
	var cookies []string
	for _, c := range p.client.Jar.Cookies(&secure) {
		cookies = append(cookies, c.Name+"="+c.Value)
		if c.Name == "csrf-token" {
			req.Header.Set("X-CSRF-Token", c.Value)
		}
	}
	req.Header.Set("Cookie", strings.Join(cookies, "; "))
	resp, err := p.client.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: status %d: %.2000s", endpoint, resp.StatusCode, body)
	}
	if err := json.Unmarshal(body, out); err != nil {
		p.t.Fatalf("%s: %v: %.2000s", endpoint, err, body)
	}
}
