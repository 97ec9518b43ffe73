package auth

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

const (
	maxDeviceName = 64 // bytes
	pollEvery     = 5 * time.Second
	pollLeeway    = time.Second // a poll may be so much early: networks and clocks are not exact
	slowDownBy    = 5 * time.Second
	maxPollEvery  = time.Minute
	// Devices of one client that begin to wait at once, and how soon one more may.
	codeBurst, codeEvery = 10, 30 * time.Second
	deviceGrant          = "urn:ietf:params:oauth:grant-type:device_code"
)

// oauthError is an error of OAuth 2.0 (RFC 6749 §5.2, RFC 8628 §3.5).
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
	status      int
	after       time.Duration
}

func (e *oauthError) Error() string { return e.Code + ": " + e.Description }

func flowError(code, description string) *oauthError {
	return &oauthError{Code: code, Description: description, status: http.StatusBadRequest}
}

// serveFlow serves an endpoint of the device flow.
func (a *Auth) serveFlow(answer func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		var out any
		err := r.ParseForm()
		if err != nil {
			err = flowError("invalid_request", "the form can't be read, or is longer than "+strconv.Itoa(maxForm)+" bytes")
		} else {
			out, err = answer(r)
		}
		var e *oauthError
		switch {
		case err == nil:
			writeJSON(w, http.StatusOK, out)
		case errors.As(err, &e):
			if e.after > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.after.Seconds()))))
			}
			writeJSON(w, e.status, e)
		case errors.Is(err, sqlx.ErrNoSpace):
			a.opts.Log.Warn("device flow", "path", r.URL.Path, "err", err)
			writeJSON(w, http.StatusInsufficientStorage, flowError("temporarily_unavailable", registry.ErrNoSpace.Message))
		case errors.Is(err, errMisdirected):
			writeError(w, err)
		default:
			if r.Context().Err() == nil {
				a.opts.Log.Error("device flow", "path", r.URL.Path, "err", err)
			}
			writeJSON(w, http.StatusInternalServerError, flowError("server_error", "the server could not do this: try again later"))
		}
	}
}

// codeAnswer is RFC 8628 §3.2.
type codeAnswer struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int    `json:"expires_in"`
	Interval                int    `json:"interval"`
}

// answerDeviceCode begins the flow (RFC 8628 §3.1), with a field of ours, device_name.
func (a *Auth) answerDeviceCode(r *http.Request) (any, error) {
	base, err := a.base.of(r)
	if err != nil {
		return nil, err
	}
	if r.PostForm.Get("client_id") == "" {
		return nil, flowError("invalid_request", "client_id is missing: send the program's name in a form")
	}
	client := a.opts.ClientAddr(r)
	if wait := a.codeRates.Take(addressKey(client), a.opts.Clock()); wait > 0 {
		return nil, &oauthError{"slow_down", "too many devices of this address wait to be approved", http.StatusTooManyRequests, wait}
	}
	name := deviceName(r.PostForm.Get("device_name"), r.PostForm.Get("client_id"))
	secret, code, err := a.devices.wait(r.Context(), name, client.String())
	if errors.Is(err, errFull) {
		return nil, &oauthError{"temporarily_unavailable", "too many devices wait to be approved: try again later",
			http.StatusServiceUnavailable, time.Minute}
	}
	if err != nil {
		return nil, err
	}
	page := base.String() + "/device"
	return &codeAnswer{
		DeviceCode: secret, UserCode: code, VerificationURI: page, VerificationURIComplete: page + "?user_code=" + code,
		ExpiresIn: int(codeLife / time.Second), Interval: int(pollEvery / time.Second),
	}, nil
}

// deviceName is what people see of a name that a device gave itself.
func deviceName(names ...string) string {
	for _, name := range names {
		space := func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }
		name = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(name, ""), space), " ")
		if len(name) > maxDeviceName {
			name = strings.TrimSpace(strings.ToValidUTF8(name[:maxDeviceName], ""))
		}
		if name != "" {
			return name
		}
	}
	return "unnamed"
}

// deviceAnswer is the successful answer to a poll.
type deviceAnswer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	DID         string `json:"did"`
	Handle      string `json:"handle"`
}

// answerDeviceToken answers a poll (RFC 8628 §3.4, §3.5). A code that is unknown, over or used is one answer.
func (a *Auth) answerDeviceToken(r *http.Request) (any, error) {
	if grant := r.PostForm.Get("grant_type"); grant != "" && grant != deviceGrant {
		return nil, flowError("unsupported_grant_type", "grant_type is to be "+deviceGrant)
	}
	secret := r.PostForm.Get("device_code")
	if secret == "" {
		return nil, flowError("invalid_request", "device_code is missing")
	}
	now, client := a.opts.Clock(), a.opts.ClientAddr(r)
	c, err := a.devices.byDeviceCode(r.Context(), secret)
	if err != nil {
		return nil, err
	}
	over := flowError("expired_token", "this device code is unknown, over or used: begin again")
	if c == nil {
		_, id := parseSecret(secret)
		if _, err := a.guesses.pay("code "+id, client, now); err != nil {
			return nil, &oauthError{"slow_down", "too many unknown device codes of this address", http.StatusTooManyRequests, pairEvery}
		}
		return nil, over
	}
	if !a.polls.take(c.id, now) {
		return nil, flowError("slow_down", "wait five seconds more between two polls")
	}
	switch {
	case !now.Before(c.ends):
		return nil, over
	case c.state == stateDenied:
		return nil, flowError("access_denied", "the device was refused on the page")
	case c.state != stateApproved:
		return nil, flowError("authorization_pending", "nobody has approved the device yet")
	}
	t, device, err := a.devices.redeem(r.Context(), c, client.String())
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, over
	}
	a.opts.Log.Info("device signed in", "did", t.DID, "id", t.ID)
	return &deviceAnswer{AccessToken: device, TokenType: "device_secret", DID: t.DID, Handle: t.Handle}, nil
}

// polls knows how often devices may ask.
type polls struct {
	mu   sync.Mutex
	byID *lru[poll]
}

type poll struct {
	last  time.Time
	every time.Duration
}

// take reports whether a device may ask now. One that may not has to wait longer from then on.
func (p *polls) take(id string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, ok := p.byID.get(id)
	if !ok {
		was.every = pollEvery
	}
	since := now.Sub(was.last)
	early := ok && since >= 0 && since < was.every-pollLeeway
	if was.last = now; early {
		was.every = min(was.every+slowDownBy, maxPollEvery)
	}
	p.byID.put(id, was)
	return !early
}
