package credhelper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// registry is the server side of a sign-in, as RFC 8628 and protocol of ATCR have it. It is asked without a network, so that waiting is
// by the clock of synctest.
type registry struct {
	code    map[string]any                // answer to the first form
	polls   []func(w http.ResponseWriter) // answers to the second, one after the other; the last is repeated
	asked   []time.Time                   // when
	first   url.Values
	second  url.Values
	schemes []string
	noTLS   bool // https fails
	down    int  // so many of the second are not answered
}

func (r *registry) RoundTrip(req *http.Request) (*http.Response, error) {
	r.schemes = append(r.schemes, req.URL.Scheme)
	if r.noTLS && req.URL.Scheme == "https" {
		return nil, errors.New("http: server gave HTTP response to HTTPS client")
	}
	if req.Method != http.MethodPost {
		return nil, fmt.Errorf("%s %s", req.Method, req.URL)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	switch req.URL.Path {
	case "/auth/device/code":
		r.first = form
		answerJSON(w, 200, r.code)
	case "/auth/device/token":
		r.second, r.asked = form, append(r.asked, time.Now())
		if r.down > 0 {
			r.down--
			return nil, errors.New("connection refused")
		}
		i := min(len(r.asked), len(r.polls)) - 1
		r.polls[i](w)
	default:
		w.WriteHeader(404)
	}
	return w.Result(), nil
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func refuse(name string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { answerJSON(w, 400, map[string]string{"error": name}) }
}

func status(code int, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, "<html>")
	}
}

func approve(w http.ResponseWriter) {
	answerJSON(w, 200, map[string]string{"access_token": "atcr_device_1.abc", "token_type": "device_secret", "did": "did:plc:alice",
		"handle": "alice.test"})
}

func codes() map[string]any {
	return map[string]any{"device_code": "DEV", "user_code": "BCDF-GHJK", "verification_uri": "https://r.test/device",
		"verification_uri_complete": "https://r.test/device?user_code=BCDF-GHJK", "expires_in": 600, "interval": 5}
}

// signIn runs one in a bubble, and returns how long it took by its clock.
func signIn(t *testing.T, r *registry, ctx context.Context) (d *Device, p Prompt, took time.Duration, err error) {
	start := time.Now()
	d, err = SignIn(ctx, SignInOptions{Host: "r.test", Name: "laptop", Client: &http.Client{Transport: r}}, func(shown Prompt) { p = shown })
	return d, p, time.Since(start), err
}

func TestSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{code: codes(), polls: []func(http.ResponseWriter){refuse("authorization_pending"), refuse("slow_down"),
			refuse("authorization_pending"), approve}}
		d, p, took, err := signIn(t, r, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if *d != (Device{Name: "laptop", Secret: "atcr_device_1.abc", DID: "did:plc:alice", Handle: "alice.test"}) {
			t.Errorf("device %+v", d)
		}
		if p != (Prompt{URL: "https://r.test/device?user_code=BCDF-GHJK", Complete: true, Code: "BCDF-GHJK", Expires: 10 * time.Minute}) {
			t.Errorf("prompt %+v", p)
		}
		if want := 30 * time.Second; took != want { // 5, 5, and from slow_down on 10, 10
			t.Errorf("it took %s, want %s", took, want)
		}
		if r.first.Encode() != "client_id=docker-credential-atcr&device_name=laptop" {
			t.Errorf("first form %q", r.first.Encode())
		}
		if r.second.Get("device_code") != "DEV" || r.second.Get("grant_type") != "urn:ietf:params:oauth:grant-type:device_code" ||
			r.second.Get("client_id") != ClientID {
			t.Errorf("second form %q", r.second.Encode())
		}
	})
}

// Without an interval it is 5 seconds; without a complete address the code is to be typed.
func TestSignInDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registry{code: codes(), polls: []func(http.ResponseWriter){approve}}
		delete(r.code, "interval")
		delete(r.code, "verification_uri_complete")
		_, p, took, err := signIn(t, r, t.Context())
		if err != nil || took != 5*time.Second || p.Complete || p.URL != "https://r.test/device" {
			t.Errorf("%v after %s: %+v", err, took, p)
		}
	})
}

func TestSignInEnds(t *testing.T) {
	told := func(w http.ResponseWriter) {
		answerJSON(w, 400, map[string]string{"error": "access_denied", "error_description": "no\x1b[31m thanks\n"})
	}
	for name, c := range map[string]struct {
		polls []func(http.ResponseWriter)
		down  int
		is    error
		text  string
		took  time.Duration
	}{
		"denied":       {[]func(http.ResponseWriter){refuse("authorization_pending"), refuse("access_denied")}, 0, ErrDenied, "", 10 * time.Second},
		"and says why": {[]func(http.ResponseWriter){told}, 0, ErrDenied, "no [31m thanks", 5 * time.Second},
		"expired":      {[]func(http.ResponseWriter){refuse("expired_token")}, 0, ErrExpired, "", 5 * time.Second},
		"nobody":       {[]func(http.ResponseWriter){refuse("authorization_pending")}, 0, ErrExpired, "", 595 * time.Second},
		"other":        {[]func(http.ResponseWriter){refuse("invalid_grant")}, 0, nil, "r.test answers 400: invalid_grant", 5 * time.Second},
		"gone":         {[]func(http.ResponseWriter){status(404)}, 0, ErrNoDevices, "docker login r.test", 5 * time.Second},
		"down for good": {[]func(http.ResponseWriter){approve}, 1000, ErrExpired, "connection refused",
			// 5 seconds doubled until 300 would pass the end
			(5 + 10 + 20 + 40 + 80 + 160) * time.Second},
		"down at first": {[]func(http.ResponseWriter){approve}, 2, nil, "", (5 + 10 + 20) * time.Second},
		"503, 429": {[]func(http.ResponseWriter){status(503), status(429, "Retry-After", "60"), approve}, 0, nil, "",
			(5 + 5 + 60) * time.Second},
		"no JSON":    {[]func(http.ResponseWriter){status(200)}, 0, ErrExpired, "not a short JSON", (5 + 10 + 20 + 40 + 80 + 160) * time.Second},
		"a redirect": {[]func(http.ResponseWriter){status(302, "Location", "https://evil.test/")}, 0, nil, "elsewhere (302)", 5 * time.Second},
		"another type": {[]func(http.ResponseWriter){func(w http.ResponseWriter) {
			answerJSON(w, 200, map[string]string{"access_token": "x", "token_type": "Bearer"})
		}}, 0, nil, `type "Bearer"`, 5 * time.Second},
		"a secret of two lines": {[]func(http.ResponseWriter){func(w http.ResponseWriter) {
			answerJSON(w, 200, map[string]string{"access_token": "x\ny", "token_type": "device_secret", "handle": "alice.test"})
		}}, 0, nil, "access_token: ", 5 * time.Second},
		"a handle that steers terminals": {[]func(http.ResponseWriter){func(w http.ResponseWriter) {
			answerJSON(w, 200, map[string]string{"access_token": "x", "token_type": "device_secret", "handle": "a\x1b[2J"})
		}}, 0, nil, "handle: ", 5 * time.Second},
		"too long": {[]func(http.ResponseWriter){func(w http.ResponseWriter) {
			answerJSON(w, 200, map[string]string{"access_token": strings.Repeat("x", 1<<17)})
		}}, 0, ErrExpired, "not a short JSON", (5 + 10 + 20 + 40 + 80 + 160) * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, _, took, err := signIn(t, &registry{code: codes(), polls: c.polls, down: c.down}, t.Context())
				if c.is == nil && c.text == "" {
					if err != nil {
						t.Error(err)
					}
				} else if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("error is %v, want %v: %q", err, c.is, c.text)
				}
				if err != nil && !printable(err.Error()) {
					t.Errorf("%q would steer a terminal", err)
				}
				if took != c.took {
					t.Errorf("it took %s, want %s", took, c.took)
				}
			})
		})
	}
}

func TestSignInInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		_, _, took, err := signIn(t, &registry{code: codes(), polls: []func(http.ResponseWriter){refuse("authorization_pending")}}, ctx)
		if !errors.Is(err, context.DeadlineExceeded) || took != 12*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
}

// What a registry answers first may be anything.
func TestSignInBadCodes(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"no device_code": func(m map[string]any) { delete(m, "device_code") },
		"no user_code":   func(m map[string]any) { delete(m, "user_code") },
		"no end":         func(m map[string]any) { delete(m, "expires_in") },
		"negative end":   func(m map[string]any) { m["expires_in"] = -5 },
		"no page":        func(m map[string]any) { delete(m, "verification_uri_complete"); delete(m, "verification_uri") },
		"a script":       func(m map[string]any) { m["verification_uri_complete"] = "javascript://r.test/%0aalert(1)" },
		"terminal's codes": func(m map[string]any) {
			m["verification_uri_complete"] = "https://r.test/\x1b]8;;https://evil.test\x07"
		},
		"a number": func(m map[string]any) { m["device_code"] = 5 },
	} {
		t.Run(name, func(t *testing.T) {
			r := &registry{code: codes(), polls: []func(http.ResponseWriter){approve}}
			change(r.code)
			if _, _, _, err := signIn(t, r, t.Context()); err == nil || !printable(err.Error()) {
				t.Errorf("error is %v", err)
			}
			if len(r.asked) > 0 {
				t.Error("it went on")
			}
		})
	}
	// What only looks odd is bounded.
	synctest.Test(t, func(t *testing.T) {
		r := &registry{code: codes(), polls: []func(http.ResponseWriter){approve}}
		r.code["interval"], r.code["expires_in"], r.code["user_code"] = int64(1)<<62, int64(1)<<62, "AB\x1b[2JCD"
		_, p, took, err := signIn(t, r, t.Context())
		if err != nil || took != maxInterval || p.Expires != maxExpiry || p.Code != "AB [2JCD" {
			t.Errorf("%v after %s: %+v", err, took, p)
		}
		r.code["interval"] = 0
		if _, _, took, err = signIn(t, r, t.Context()); err != nil || took != time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
}

// Only a registry on this machine is asked by plain http, and by https first.
func TestSignInSchemes(t *testing.T) {
	for host, want := range map[string]string{"127.0.0.1:5000": "https http http", "localhost:5000": "https http http",
		"[::1]:5000": "https http http", "r.test": "https", "127.0.0.1.evil.test": "https", "192.168.1.2:5000": "https"} {
		synctest.Test(t, func(t *testing.T) {
			r := &registry{code: codes(), polls: []func(http.ResponseWriter){approve}, noTLS: true}
			_, err := SignIn(t.Context(), SignInOptions{Host: host, Client: &http.Client{Transport: r}}, func(Prompt) {})
			if got := strings.Join(r.schemes, " "); got != want || (err == nil) != strings.Contains(want, "http ") {
				t.Errorf("%s: asked by %s, want %s: %v", host, got, want, err)
			}
		})
	}
}

// A registry on this machine whose certificate isn't trusted is not asked by plain http instead.
func TestSignInUntrusted(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	_, err := SignIn(t.Context(), SignInOptions{Host: strings.TrimPrefix(server.URL, "https://")}, func(Prompt) {})
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error is %v", err)
	}
}

func FuzzAnswers(f *testing.F) {
	code, _ := json.Marshal(codes())
	f.Add(string(code), 200, `{"access_token":"atcr_device_1","token_type":"device_secret","did":"did:plc:a","handle":"a.test"}`)
	f.Add(`{"device_code":"a","user_code":"b","verification_uri":"http://x/","expires_in":10,"interval":1}`, 400, `{"error":"slow_down"}`)
	f.Add(`{`, 500, `[]`)
	f.Fuzz(func(t *testing.T, code string, state int, token string) {
		if state < 200 || state > 599 {
			return
		}
		transport := roundTripper(func(req *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			w.Header().Set("Content-Type", "application/json")
			if strings.HasSuffix(req.URL.Path, "code") {
				io.WriteString(w, code)
			} else {
				w.WriteHeader(state)
				io.WriteString(w, token)
			}
			return w.Result(), nil
		})
		synctest.Test(t, func(t *testing.T) {
			d, err := SignIn(t.Context(), SignInOptions{Host: "r.test", Client: &http.Client{Transport: transport}}, func(p Prompt) {
				if !printable(p.URL) || !printable(p.Code) {
					t.Errorf("%+v would steer a terminal", p)
				}
			})
			if err == nil && (checkSecret(d.Secret) != nil || !printable(d.Handle) || !printable(d.DID)) {
				t.Errorf("%+v", d)
			}
			if err != nil && !printable(err.Error()) {
				t.Errorf("%q would steer a terminal", err)
			}
		})
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func ExampleSignIn() {
	registry := &registry{code: codes(), polls: []func(http.ResponseWriter){approve}}
	registry.code["interval"] = 1
	device, err := SignIn(context.Background(), SignInOptions{Host: "r.test", Name: "laptop", Client: &http.Client{Transport: registry}},
		func(p Prompt) { fmt.Println("open", p.URL) })
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(device.Handle)
	// Output:
	// open https://r.test/device?user_code=BCDF-GHJK
	// alice.test
}
