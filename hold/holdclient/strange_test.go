package holdclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// A hold says where a part goes and with which headers. It must not use us to speak to others in a name that is not its own.
func TestPartHeadersOfStrangers(t *testing.T) {
	var got atomic.Int64
	victim := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		got.Add(1)
		w.Header().Set("ETag", `"1"`)
	}))
	defer victim.Close()
	for name, taken := range map[string]bool{
		"X-Amz-Date": true, "content-md5": true, "X-Upload-Id": true,
		"X-Forwarded-For": false, "Forwarded": false, "Proxy-Authorization": false, "Upgrade": false, "Cookie": false, "host": false, "X-Real-IP": false,
	} {
		got.Store(0)
		hold := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"url": victim.URL + "/part", "method": "PUT",
				"headers": map[string]string{name: "127.0.0.1"}})
		}))
		c := holdclient.New(holdclient.Options{DID: "did:web:hold.test", URL: hold.URL, HTTP: http.DefaultClient})
		_, err := c.UploadPart(t.Context(), "upload", 1, 4, strings.NewReader("part"))
		if taken && (err != nil || got.Load() != 1) || !taken && (!errors.Is(err, holdclient.ErrBadAnswer) || got.Load() != 0) {
			t.Errorf("%s: %v, the storage was asked %d times", name, err, got.Load())
		}
		hold.Close()
	}
}

// Neither readers nor we go where a hold points inwards, whatever it answers; a hold that is itself there may.
func TestLinksInwards(t *testing.T) {
	d := digest.FromString("hello, layer")
	calls := map[string]func(c *holdclient.Client) error{
		"Locate": func(c *holdclient.Client) error {
			_, err := c.Locate(t.Context(), "did:web:a.test", d, holdclient.LocateOptions{Size: 12, Public: true})
			return err
		},
		"StatBlob": func(c *holdclient.Client) error {
			_, err := c.StatBlob(t.Context(), "did:web:a.test", d)
			return err
		},
		"OpenBlob": func(c *holdclient.Client) error {
			body, err := c.OpenBlob(t.Context(), "did:web:a.test", d, 0, 0)
			if err == nil {
				err = body.Close()
			}
			return err
		},
		"UploadPart": func(c *holdclient.Client) error {
			_, err := c.UploadPart(t.Context(), "upload", 1, 4, strings.NewReader("part"))
			return err
		},
	}
	bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"1"`)
		_, _ = io.WriteString(w, "hello, layer")
	}))
	defer bucket.Close()
	for link, taken := range map[string]bool{
		"http://169.254.169.254/latest/meta-data/": false, "http://10.0.0.1/": false, "//192.168.1.1/": false, "http://[fd00::1]/": false,
		"http://0.0.0.0/": false, "http://167772161/": false, bucket.URL + "/x?signature=1": true,
	} {
		for name, call := range calls {
			for _, older := range []bool{false, true} {
				hold := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if older || strings.HasSuffix(r.URL.Path, "getPartUploadUrl") {
						w.Header().Set("Content-Type", "application/json")
						_ = json.NewEncoder(w).Encode(map[string]string{"url": link})
						return
					}
					w.Header().Set("Location", link)
					w.WriteHeader(http.StatusTemporaryRedirect)
				}))
				c := holdclient.New(holdclient.Options{DID: "did:web:hold.test", URL: hold.URL, HTTP: hold.Client()})
				err := call(c)
				if taken && err != nil || !taken && !errors.Is(err, holdclient.ErrLinkRefused) {
					t.Errorf("%s of %s (%v): %v", name, link, older, err)
				}
				hold.Close()
			}
		}
	}
}

// A caller's own check decides, and tells what is for good from what is not.
func TestCheckLink(t *testing.T) {
	hold := httptest.NewServer(http.RedirectHandler("https://bucket.example.com/x", http.StatusTemporaryRedirect))
	defer hold.Close()
	var answer error
	c := holdclient.New(holdclient.Options{
		DID: "did:web:hold.test", URL: hold.URL, HTTP: hold.Client(),
		CheckLink: func(_ context.Context, from, link *url.URL) error {
			if "http://"+from.Host != hold.URL || link.Host != "bucket.example.com" {
				t.Errorf("asked for %s to %s", from, link)
			}
			return answer
		},
	})
	for _, tt := range []struct{ answer, want error }{
		{nil, nil}, {holdclient.ErrLinkRefused, holdclient.ErrLinkRefused}, {errors.New("no resolver"), holdclient.ErrUnavailable},
	} {
		answer = tt.answer
		_, err := c.Locate(t.Context(), "did:web:a.test", digest.FromString("x"), holdclient.LocateOptions{Size: 1})
		if !errors.Is(err, tt.want) {
			t.Errorf("%v: %v", tt.answer, err)
		}
	}
}

// Text that JSON would write longer for HTML does not make a notice more than a hold takes, which is after the push was acknowledged.
func TestNoticeOfAwkwardText(t *testing.T) {
	var got struct {
		Manifest struct {
			Layers    []struct{ MediaType string }
			Manifests []struct{ MediaType string }
		}
	}
	length := int64(0)
	hold := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		length = r.ContentLength
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte(`{}`))
	}))
	defer hold.Close()
	c := holdclient.New(holdclient.Options{DID: "did:web:hold.test", URL: hold.URL, HTTP: http.DefaultClient})
	for _, test := range []struct {
		list, text string
		kept       bool
	}{
		{"layers", strings.Repeat("<&>", 1<<20), true},
		{"manifests", strings.Repeat("<&>", 1<<20), true},
		{"layers", strings.Repeat("\u2028", 1<<20), false}, // which JSON writes twice as long in any case
	} {
		got.Manifest.Layers, got.Manifest.Manifests = nil, nil
		manifest := `{"` + test.list + `":[{"mediaType":"` + test.text + `","digest":"sha256:00","size":1}]}`
		_, err := c.NotifyManifest(t.Context(), holdclient.Notice{Operation: holdclient.Push, Manifest: []byte(manifest)})
		if err != nil || length > 5<<20 {
			t.Errorf("%s of %.6q…: %v, %d bytes", test.list, test.text, err, length)
		}
		list := append(got.Manifest.Layers, got.Manifest.Manifests...)
		if kept := len(list) == 1 && list[0].MediaType == test.text; kept != test.kept {
			t.Errorf("%s of %.6q…: the hold is told %d descriptors", test.list, test.text, len(list))
		}
	}
}

// A name that was public when it was looked at, and leads inwards when we connect, gives nothing.
func TestLinkThatTurnsInwards(t *testing.T) {
	const hold, bucket = "http://hold.example.com", "http://bucket.example.com/x"
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.Host, "bucket"):
			w.Header().Set("ETag", `"1"`)
			_, _ = io.WriteString(w, "secret")
		case strings.HasSuffix(r.URL.Path, "getPartUploadUrl"):
			_ = json.NewEncoder(w).Encode(map[string]string{"url": bucket})
		default:
			http.Redirect(w, r, bucket, http.StatusTemporaryRedirect)
		}
	}))
	defer inside.Close()
	tr := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, inside.Listener.Addr().String())
	}}
	defer tr.CloseIdleConnections()
	links := httpx.NewLinks(httpx.LinkOptions{Guard: httpx.AnyNetwork(), Lookup: func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
	}})
	c := holdclient.New(holdclient.Options{DID: "did:web:hold.test", URL: hold, HTTP: &http.Client{Transport: tr}, CheckLink: links.Check})
	d := digest.FromString("secret")
	if at, err := c.Locate(t.Context(), "did:web:a.test", d, holdclient.LocateOptions{Size: 6}); err != nil || at.Link != bucket {
		t.Errorf("readers: %v %v", at, err)
	}
	for range 2 { // a new connection, and one that is used again
		if size, err := c.StatBlob(t.Context(), "did:web:a.test", d); !errors.Is(err, holdclient.ErrLinkRefused) {
			t.Errorf("size %d, %v", size, err)
		}
		if body, err := c.OpenBlob(t.Context(), "did:web:a.test", d, 0, 0); !errors.Is(err, holdclient.ErrLinkRefused) {
			t.Errorf("bytes %v, %v", body, err)
		}
		if part, err := c.UploadPart(t.Context(), "upload", 1, 4, strings.NewReader("part")); !errors.Is(err, holdclient.ErrLinkRefused) {
			t.Errorf("part %v, %v", part, err)
		}
	}
}
