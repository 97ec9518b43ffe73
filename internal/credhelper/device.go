package credhelper

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// ClientID is what this program calls itself at a registry.
const ClientID = "docker-credential-atcr"

// SignInOptions say where a device is to be signed in.
type SignInOptions struct {
	// Host of the registry. It is asked by https; one on this machine by http where it does not speak https.
	Host string
	Name string // of the device, as the registry is to list it; the machine's when ""
	// Client asks, and follows no redirect; nil is one with sensible limits, by the proxy of the environment.
	Client *http.Client
}

// Prompt is what a person must see to approve a device.
type Prompt struct {
	URL      string // page to open
	Complete bool   // URL has the code in it
	Code     string // to compare with the page's, or to type there
	Expires  time.Duration
}

// Device is one that was approved.
type Device struct {
	Name        string
	Secret      string
	DID, Handle string
}

// Errors of [SignIn], beside those of a registry that can't be reached.
var (
	ErrDenied    = errors.New("the sign-in was refused on the page")
	ErrExpired   = errors.New("nobody approved the sign-in in time")
	ErrNoDevices = errors.New("this registry has no sign-in for devices")
)

const (
	maxAnswer       = 64 << 10
	defaultInterval = 5 * time.Second // RFC 8628, 3.2
	maxInterval     = 5 * time.Minute
	maxExpiry       = time.Hour
	requestLimit    = 30 * time.Second
)

// SignIn signs this device in by the device flow of RFC 8628: show is called with what a person must see, then the registry is asked
// until somebody has approved or refused, the code has expired, or ctx ends. Failures to reach the registry meanwhile are waited out.
func SignIn(ctx context.Context, o SignInOptions, show func(Prompt)) (*Device, error) {
	host, _, err := splitServer(o.Host)
	if err != nil {
		return nil, err
	}
	f := &flow{host: host}
	if o.Client != nil {
		f.client = *o.Client
	} else {
		f.client = newClient()
	}
	// The forms carry secrets, and a registry has its own address.
	f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	name := plain(o.Name)
	if name == "" {
		name = deviceName()
	}
	code, err := f.begin(ctx, name)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(code.expires)
	show(code.Prompt)
	d, err := f.wait(ctx, code, deadline)
	if err != nil {
		return nil, err
	}
	d.Name = name
	return d, nil
}

func newClient() http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10
	return http.Client{Transport: transport, Timeout: requestLimit}
}

func deviceName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unnamed"
	}
	return cmp.Or(plain(name), "unnamed")
}

// flow is one sign-in.
type flow struct {
	client http.Client
	host   string
	base   string // scheme and host
}

// deviceCode is the answer of RFC 8628, 3.2.
type deviceCode struct {
	Prompt
	secret   string
	interval time.Duration
	expires  time.Duration
}

func (f *flow) begin(ctx context.Context, name string) (*deviceCode, error) {
	form := url.Values{"client_id": {ClientID}, "device_name": {name}}
	f.base = "https://" + f.host
	a, err := f.post(ctx, "/auth/device/code", form)
	var untrusted *tls.CertificateVerificationError // it does speak TLS
	if err != nil && Loopback(f.host) && ctx.Err() == nil && !errors.As(err, &untrusted) {
		f.base = "http://" + f.host
		a, err = f.post(ctx, "/auth/device/code", form)
	}
	if err != nil {
		return nil, fmt.Errorf("%s can't be asked for a sign-in: %w", f.host, err)
	}
	if a.status != http.StatusOK {
		return nil, a.refused(f.host)
	}
	if a.DeviceCode == "" || a.UserCode == "" {
		return nil, fmt.Errorf("%s answers without device_code or user_code", f.base)
	}
	d := &deviceCode{secret: a.DeviceCode, interval: defaultInterval, expires: min(seconds(a.ExpiresIn), maxExpiry)}
	if a.Interval != nil {
		d.interval = min(max(seconds(*a.Interval), time.Second), maxInterval)
	}
	if d.expires <= 0 {
		return nil, fmt.Errorf("%s answers without expires_in", f.base)
	}
	d.Prompt = Prompt{Code: plain(a.UserCode), Expires: d.expires}
	if d.URL, d.Complete = a.VerificationURIComplete, true; d.URL == "" {
		d.URL, d.Complete = a.VerificationURI, false
	}
	if u, err := url.Parse(d.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || !printable(d.URL) {
		return nil, fmt.Errorf("%s names no page that a browser could open: %q", f.base, plain(d.URL))
	}
	return d, nil
}

// wait asks until there is an answer that ends it.
func (f *flow) wait(ctx context.Context, code *deviceCode, deadline time.Time) (*Device, error) {
	form := url.Values{
		"client_id": {ClientID}, "device_code": {code.secret}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"},
	}
	interval := code.interval
	var last error // why the registry could not be asked, most lately
	for {
		if !time.Now().Add(interval).Before(deadline) {
			if last != nil {
				return nil, fmt.Errorf("%w; at last %s could not be asked: %w", ErrExpired, f.host, last)
			}
			return nil, ErrExpired
		}
		timer := time.NewTimer(interval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("sign in to %s: %w", f.host, ctx.Err())
		case <-timer.C:
		}
		a, err := f.post(ctx, "/auth/device/token", form)
		last = err
		switch {
		case err != nil:
			if ctx.Err() != nil {
				return nil, fmt.Errorf("sign in to %s: %w", f.host, ctx.Err())
			}
			interval = min(interval*2, maxInterval) // RFC 8628, 3.5
			continue
		case a.status == http.StatusOK:
			return a.device(f.base)
		case a.status >= 500 || a.status == http.StatusTooManyRequests:
			last = a.refused(f.host)
			interval = max(interval, min(a.retryAfter, maxInterval))
			continue
		}
		switch a.Error {
		case "authorization_pending":
		case "slow_down":
			interval = min(interval+5*time.Second, maxInterval)
		case "access_denied":
			return nil, a.because(ErrDenied)
		case "expired_token":
			return nil, a.because(ErrExpired)
		default:
			return nil, a.refused(f.host)
		}
	}
}

// answer is what a registry answers to either form.
type answer struct {
	status     int
	retryAfter time.Duration

	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int64  `json:"expires_in"`
	Interval                *int64 `json:"interval"`

	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	DID         string `json:"did"`
	Handle      string `json:"handle"`

	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// seconds is a duration that a number of them can't overflow.
func seconds(n int64) time.Duration {
	return time.Duration(min(max(n, 0), 1<<31)) * time.Second
}

func (f *flow) post(ctx context.Context, path string, form url.Values) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", ClientID)
	resp, err := f.client.Do(req)
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // who was asked for what, the caller says
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	a := &answer{status: resp.StatusCode}
	if n, err := strconv.ParseInt(resp.Header.Get("Retry-After"), 10, 64); err == nil {
		a.retryAfter = seconds(n)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "application/json" || len(body) > maxAnswer {
		if resp.StatusCode == http.StatusOK {
			return nil, fmt.Errorf("%s answers with %d bytes of %q, not a short JSON", f.base+path, len(body), plain(kind))
		}
		return a, nil // the status says enough
	}
	if err := json.Unmarshal(body, a); err != nil && resp.StatusCode == http.StatusOK {
		return nil, fmt.Errorf("%s: %w", f.base+path, err)
	}
	return a, nil
}

// because is an end, in the registry's words where it has some.
func (a *answer) because(kind error) error {
	if text := plain(a.Description); text != "" {
		return &ended{kind, text}
	}
	return kind
}

// ended is an error of a kind with a text of the registry's.
type ended struct {
	kind error
	text string
}

func (e *ended) Error() string { return e.text }
func (e *ended) Unwrap() error { return e.kind }

// refused is any other answer than those that the flow knows.
func (a *answer) refused(host string) error {
	switch {
	case a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed:
		return fmt.Errorf("%w: use docker login %s with an app password", ErrNoDevices, host)
	case a.status/100 == 3:
		return fmt.Errorf("%s sends this program elsewhere (%d): name the registry by its own address", host, a.status)
	}
	text := cmp.Or(plain(a.Description), plain(a.Error), http.StatusText(a.status))
	return fmt.Errorf("%s answers %d: %s", host, a.status, text)
}

// device is the success.
func (a *answer) device(base string) (*Device, error) {
	if !strings.EqualFold(a.TokenType, "device_secret") {
		return nil, fmt.Errorf("%s answers with a token of type %q, not device_secret", base, plain(a.TokenType))
	}
	if err := checkSecret(a.AccessToken); err != nil {
		return nil, fmt.Errorf("%s: access_token: %w", base, err)
	}
	name := cmp.Or(a.Handle, a.DID)
	if _, err := accountName(name); err != nil {
		return nil, fmt.Errorf("%s: handle: %w", base, err)
	}
	if a.DID != "" && (!strings.HasPrefix(a.DID, "did:") || len(a.DID) > maxAccount || !printable(a.DID)) {
		return nil, fmt.Errorf("%s: did %q is no DID", base, plain(a.DID))
	}
	return &Device{Secret: a.AccessToken, DID: a.DID, Handle: name}, nil
}
