package holdclient_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/serviceauth"
	"github.com/atcr-dev/atcr/internal/realtest/upstreamhold"
)

// wire records requests: "POST initiateUpload", with "+#" and "+bare" for the audience of a token.
type wire struct {
	mu   sync.Mutex
	seen []string
	base http.RoundTripper
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	_, name, ok := strings.Cut(r.URL.Path, "/xrpc/")
	line := r.Method + " " + name[strings.LastIndex(name, ".")+1:]
	if !ok {
		line = r.Method + " bucket"
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		var claims struct{ Aud string }
		if parts := strings.Split(token, "."); len(parts) == 3 {
			b, _ := base64.RawURLEncoding.DecodeString(parts[1])
			_ = json.Unmarshal(b, &claims)
		}
		if strings.HasSuffix(claims.Aud, "#atcr_hold") {
			line += " +#"
		} else {
			line += " +bare"
		}
	}
	w.mu.Lock()
	w.seen = append(w.seen, line)
	w.mu.Unlock()
	return w.base.RoundTrip(r)
}

func (w *wire) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	w.mu.Lock()
	got := w.seen
	w.seen = nil
	w.mu.Unlock()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

type person struct {
	did string
	key atcrypto.PrivateKeyExportable
}

func (p person) token(_ context.Context, aud, lxm string) (string, error) {
	return serviceauth.Mint(p.key, serviceauth.MintOptions{Issuer: syntax.DID(p.did), Audience: aud, Method: lxm})
}

func newPerson(t *testing.T, dir *indigo.MockDirectory, name string) person {
	key, err := atcrypto.GeneratePrivateKeyK256()
	must(t, err)
	pub, err := key.PublicKey()
	must(t, err)
	p := person{"did:web:" + name + ".test", key}
	dir.Insert(indigo.Identity{DID: syntax.DID(p.did), Handle: syntax.HandleInvalid,
		Keys: map[string]indigo.VerificationMethod{"atproto": {Type: "Multikey", PublicKeyMultibase: pub.Multibase()}}})
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newClient(did, url string, hasService bool) (*holdclient.Client, *wire) {
	w := &wire{base: http.DefaultTransport}
	return holdclient.New(holdclient.Options{DID: did, URL: url, HasHoldService: hasService, HTTP: &http.Client{Transport: w}}), w
}

// ours starts a hold of package hold.
func ours(t *testing.T, dir *indigo.MockDirectory, owner string, public bool, crew ...hold.CrewMember) (did, url string) {
	var h http.Handler
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	s, err := hold.New(t.Context(), hold.Config{
		Dir: t.TempDir(), PublicURL: fmt.Sprintf("http://localhost:%d", srv.Listener.Addr().(*net.TCPAddr).Port),
		OwnerDID: owner, Public: public, TestMode: true, Directory: dir, Crew: crew, AllowAllCrew: true,
	})
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	h = s.Handler()
	return s.DID(), srv.URL
}

func TestRequestsToOurs(t *testing.T) {
	dir := identity.NewMockDirectory()
	alice, bob, ctx := newPerson(t, dir, "alice"), newPerson(t, dir, "bob"), t.Context()
	did, url := ours(t, dir, alice.did, false)
	anon, w := newClient(did, url, true)
	c := anon.As(alice.token)
	body := []byte("some layer")
	d := digest.FromBytes(body)

	present, err := c.CheckBlobs(ctx, alice.did, "app", []digest.Digest{d})
	must(t, err)
	w.expect(t, "the first call of a method is made without a token", "POST checkBlobs", "POST checkBlobs +#")
	if len(present) != 0 {
		t.Errorf("present: %v", present)
	}
	_, err = c.CheckBlobs(ctx, alice.did, "app", []digest.Digest{d})
	must(t, err)
	w.expect(t, "later ones are not", "POST checkBlobs +#")

	id, err := c.InitiateUpload(ctx, "")
	must(t, err)
	w.expect(t, "initiate", "POST initiateUpload", "POST initiateUpload +#")
	p1, err := c.UploadPart(ctx, id, 1, 5, bytes.NewReader(body[:5]))
	must(t, err)
	w.expect(t, "where parts go is asked once; the uploadId is enough", "POST getPartUploadUrl", "PUT uploadPart")
	p2, err := c.UploadPart(ctx, id, 2, 5, io.MultiReader(bytes.NewReader(body[5:])))
	must(t, err)
	w.expect(t, "then it is known", "PUT uploadPart")
	state, err := c.GetUpload(ctx, id)
	must(t, err)
	w.expect(t, "getUpload", "GET getUpload")
	if state.Offset != 10 || len(state.Parts) != 2 || state.Parts[1].ETag != p2.ETag {
		t.Errorf("state: %+v", state)
	}
	err = c.CompleteUpload(ctx, id, digest.FromString("else"), []holdclient.Part{p1, p2})
	if !errors.Is(err, holdclient.ErrInvalidDigest) {
		t.Errorf("complete under another digest: %v", err)
	}
	must(t, c.CompleteUpload(ctx, id, d, []holdclient.Part{p1, p2}))
	w.expect(t, "complete", "POST completeUpload", "POST completeUpload +#", "POST completeUpload +#")
	must(t, c.AbortUpload(ctx, "unknown"))
	w.expect(t, "abort", "POST abortUpload")

	size, err := c.StatBlob(ctx, alice.did, d)
	must(t, err)
	w.expect(t, "stat", "HEAD getBlob", "HEAD getBlob +#")
	if size != 10 {
		t.Errorf("size %d", size)
	}
	b, err := c.GetBlob(ctx, alice.did, d, "")
	must(t, err)
	w.expect(t, "get", "GET getBlob +#")
	if !strings.Contains(b.URL, "/blobs/") {
		t.Errorf("blob: %+v", b)
	}
	if _, err := anon.GetBlob(ctx, alice.did, d, ""); !errors.Is(err, holdclient.ErrUnauthorized) {
		t.Errorf("anonymous: %v", err)
	}
	if _, err := anon.As(bob.token).GetBlob(ctx, alice.did, d, ""); !errors.Is(err, holdclient.ErrForbidden) {
		t.Errorf("a stranger: %v", err)
	}
	w.expect(t, "anonymous and stranger", "GET getBlob", "GET getBlob +#")
	_, err = c.StatBlob(ctx, alice.did, digest.FromString("missing"))
	if !errors.Is(err, holdclient.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	w.expect(t, "stat of what is missing", "HEAD getBlob +#")

	r, err := anon.Rights(ctx, bob.did)
	must(t, err)
	w.expect(t, "rights of a stranger", "GET getRecord", "GET getRecord", "GET listRecords")
	if r.Read || r.Crew {
		t.Errorf("rights: %+v", r)
	}
	res, err := anon.As(bob.token).RequestCrew(ctx)
	must(t, err)
	w.expect(t, "requestCrew", "POST requestCrew", "POST requestCrew +#")
	r, err = anon.Rights(ctx, bob.did)
	must(t, err)
	w.expect(t, "rights of a member", "GET getRecord", "GET getRecord")
	if !r.Write || res.Status != "created" {
		t.Errorf("rights: %+v, %+v", r, res)
	}
	_, err = c.NotifyManifest(ctx, holdclient.Notice{Operation: holdclient.Pull, Repository: "app", UserDID: alice.did, Digest: d})
	must(t, err)
	w.expect(t, "notify", "POST notifyManifest", "POST notifyManifest +#")
	_, err = c.GetQuota(ctx, alice.did)
	must(t, err)
	w.expect(t, "quota", "GET getQuota", "GET getQuota +#")
	desc, err := c.Describe(ctx)
	must(t, err)
	w.expect(t, "describe", "GET describeServer")
	if desc.DID != did {
		t.Errorf("describe: %+v", desc)
	}
}

// A public hold never learns who reads.
func TestPublicReadsSendNoToken(t *testing.T) {
	dir := identity.NewMockDirectory()
	alice := newPerson(t, dir, "alice")
	did, url := ours(t, dir, alice.did, true)
	c, w := newClient(did, url, true)
	_, err := c.As(alice.token).StatBlob(t.Context(), alice.did, digest.FromString("x"))
	if !errors.Is(err, holdclient.ErrNotFound) {
		t.Error(err)
	}
	w.expect(t, "stat", "HEAD getBlob")
}

func TestRequestsToUpstream(t *testing.T) {
	for form, name := range map[upstreamhold.Form]string{upstreamhold.Redirect: "redirect", upstreamhold.URLJSON: "json",
		upstreamhold.Bytes: "bytes"} {
		t.Run(name, func(t *testing.T) { requestsToUpstream(t, form) })
	}
}

func requestsToUpstream(t *testing.T, form upstreamhold.Form) {
	dir := identity.NewMockDirectory()
	alice, ctx := newPerson(t, dir, "alice"), t.Context()
	h := upstreamhold.Start(t, upstreamhold.Options{Owner: alice.did, Directory: dir, Public: true, GetBlob: form})
	// The document wrongly makes us believe in #atcr_hold: the hold takes the bare DID alone.
	c, w := newClient(h.DID, h.URL, true)
	c = c.As(alice.token)
	body := []byte(`{"url":"http://config.example/that/is/a/blob"}`)
	d := digest.FromBytes(body)
	heads := map[upstreamhold.Form][]string{
		upstreamhold.Redirect: {"HEAD getBlob", "HEAD bucket"},
		upstreamhold.URLJSON:  {"HEAD getBlob", "GET getBlob", "HEAD bucket", "GET bucket"},
		upstreamhold.Bytes:    {"HEAD getBlob"},
	}[form]

	present, err := c.CheckBlobs(ctx, alice.did, "app", []digest.Digest{d})
	must(t, err)
	w.expect(t, "checkBlobs is tried once", "POST checkBlobs", "HEAD getBlob")
	if len(present) != 0 {
		t.Errorf("present: %v", present)
	}
	id, err := c.InitiateUpload(ctx, "")
	must(t, err)
	w.expect(t, "the other audience is tried once", "POST initiateUpload", "POST initiateUpload +#", "POST initiateUpload +bare")
	var parts []holdclient.Part
	for i, piece := range [][]byte{body[:7], body[7:]} {
		p, err := c.UploadPart(ctx, id, i+1, int64(len(piece)), io.MultiReader(bytes.NewReader(piece)))
		must(t, err)
		parts = append(parts, p)
	}
	w.expect(t, "parts go to the bucket, without a token", "POST getPartUploadUrl", "POST getPartUploadUrl +bare", "PUT bucket",
		"POST getPartUploadUrl +bare", "PUT bucket")
	if _, err := c.GetUpload(ctx, id); !errors.Is(err, holdclient.ErrNotSupported) {
		t.Errorf("getUpload: %v", err)
	}
	if _, err := c.GetUpload(ctx, id); !errors.Is(err, holdclient.ErrNotSupported) {
		t.Errorf("getUpload: %v", err)
	}
	w.expect(t, "getUpload is tried once", "GET getUpload")
	must(t, c.CompleteUpload(ctx, id, d, parts))
	w.expect(t, "complete", "POST completeUpload", "POST completeUpload +bare")

	present, err = c.CheckBlobs(ctx, alice.did, "app", []digest.Digest{d})
	must(t, err)
	w.expect(t, "present", heads...)
	if present[d] != int64(len(body)) {
		t.Errorf("present: %v", present)
	}
	b, err := c.GetBlob(ctx, alice.did, d, "")
	must(t, err)
	w.expect(t, "get", "GET getBlob")
	if form == upstreamhold.Bytes {
		got, err := io.ReadAll(b.Body)
		must(t, err)
		_ = b.Body.Close()
		if !bytes.Equal(got, body) {
			t.Errorf("got %q", got)
		}
	} else if b.URL == "" {
		t.Error("no link")
	}
	manifest := []byte(fmt.Sprintf(`{"config":{"digest":%q,"size":1},"layers":[{"digest":%q,"size":%d,"mediaType":"a/b","annotations":{}}]}`, d, d, len(body)))
	res, err := c.NotifyManifest(ctx, holdclient.Notice{Operation: holdclient.Push, Repository: "app", UserDID: alice.did, Digest: d,
		Manifest: manifest})
	must(t, err)
	if res.LayersCreated != 1 || len(h.Layers()) != 1 {
		t.Errorf("notify: %+v %v", res, h.Layers())
	}
	res, err = c.NotifyManifest(ctx, holdclient.Notice{Operation: holdclient.Delete, Repository: "app", UserDID: alice.did, Digest: d})
	if err != nil || !res.Ignored {
		t.Errorf("a delete that the hold doesn't know: %+v, %v", res, err)
	}
	w.expect(t, "notify", "POST notifyManifest", "POST notifyManifest +bare", "POST notifyManifest +bare")
	_, err = c.InitiateUpload(ctx, digest.SHA512.FromString("x"))
	if !errors.Is(err, holdclient.ErrInvalidDigest) {
		t.Errorf("sha512: %v", err)
	}
}

// Crew records at keys of no meaning are found on whichever page.
func TestMemberOnALaterPage(t *testing.T) {
	dir := identity.NewMockDirectory()
	crew := map[string][]string{}
	for i := range 120 {
		crew[fmt.Sprintf("did:web:m%d.test", i)] = []string{"blob:read"}
	}
	h := upstreamhold.Start(t, upstreamhold.Options{Owner: "did:web:o.test", Directory: dir, Crew: crew})
	c, w := newClient(h.DID, h.URL, false)
	for did := range crew {
		if _, err := c.Member(t.Context(), did); err != nil {
			t.Fatalf("%s: %v", did, err)
		}
	}
	w.expectOnly(t, "GET getRecord", "GET listRecords")
	if _, err := c.Member(t.Context(), "did:web:nobody.test"); !errors.Is(err, holdclient.ErrNotFound) {
		t.Error(err)
	}
	w.expect(t, "nobody", "GET getRecord", "GET listRecords", "GET listRecords", "GET listRecords")
}

func (w *wire) expectOnly(t *testing.T, allowed ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.seen {
		if !slices.Contains(allowed, s) {
			t.Errorf("request %q", s)
		}
	}
	w.seen = nil
}

// hostile returns everything with one answer.
func hostile(t *testing.T, status int, header http.Header, body string) *holdclient.Client {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for k, v := range header {
			w.Header()[k] = v
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return holdclient.New(holdclient.Options{DID: "did:web:hold.test", URL: srv.URL, HTTP: srv.Client()})
}

func TestHostileAnswers(t *testing.T) {
	ctx, d := t.Context(), digest.FromString("x")
	huge := `{"records":[` + strings.Repeat(`{"uri":"x","value":{}},`, 300_000) + `{}]}`
	for _, tt := range []struct {
		name   string
		status int
		header http.Header
		body   string
		do     func(*holdclient.Client) error
		want   error
	}{
		{"list over the limit", 200, nil, huge, func(c *holdclient.Client) error {
			_,
				err := c.Member(ctx, "did:web:a.test")
			return err
		}, holdclient.ErrBadAnswer},
		{"no JSON", 200, nil, "<html>", func(c *holdclient.Client) error { _, err := c.InitiateUpload(ctx, d); return err },
			holdclient.ErrBadAnswer},
		{"uploadId with line breaks", 200, nil, `{"uploadId":"a\r\nX: y"}`,
			func(c *holdclient.Client) error { _, err := c.InitiateUpload(ctx, d); return err }, holdclient.ErrBadAnswer},
		{"blob nobody asked for", 200, nil, `{"present":[{"digest":"sha256:0","size":3}]}`, func(c *holdclient.Client) error {
			_, err := c.CheckBlobs(ctx, "did:web:a.test", "app", []digest.Digest{d})
			return err
		}, holdclient.ErrBadAnswer},
		{"redirect to a file", 307, http.Header{"Location": {"file:///etc/passwd"}}, "",
			func(c *holdclient.Client) error { _, err := c.GetBlob(ctx, "did:web:a.test", d, ""); return err }, holdclient.ErrLinkRefused},
		{"redirect without address", 307, nil, "", func(c *holdclient.Client) error {
			_,
				err := c.GetBlob(ctx, "did:web:a.test", d, "")
			return err
		}, holdclient.ErrLinkRefused},
		{"redirect of a call", 307, http.Header{"Location": {"http://127.0.0.1:1/"}}, "",
			func(c *holdclient.Client) error { _, err := c.InitiateUpload(ctx, d); return err }, holdclient.ErrBadAnswer},
		{"500", 500, nil, "oops", func(c *holdclient.Client) error { _, err := c.InitiateUpload(ctx, d); return err }, holdclient.ErrUnavailable},
		{"429", 429, http.Header{"Retry-After": {"7"}}, "",
			func(c *holdclient.Client) error { _, err := c.InitiateUpload(ctx, d); return err }, holdclient.ErrRateLimited},
		{"507", 507, nil, "", func(c *holdclient.Client) error { return c.CompleteUpload(ctx, "u", d, nil) }, holdclient.ErrNoSpace},
		{"quota", 403, nil, `{"error":"QuotaExceeded"}`, func(c *holdclient.Client) error {
			_, err := c.NotifyManifest(ctx, holdclient.Notice{Operation: holdclient.Push})
			return err
		}, holdclient.ErrQuotaExceeded},
		{"range", 416, nil, "", func(c *holdclient.Client) error {
			_, err := c.GetBlob(ctx, "did:web:a.test", d, "bytes=9-")
			return err
		}, holdclient.ErrRangeNotSatisfiable},
		{"captain without owner", 200, nil, `{"value":{"public":true}}`,
			func(c *holdclient.Client) error { _, err := c.Captain(ctx); return err }, holdclient.ErrBadAnswer},
		{"part address that is none", 200, nil, `{"url":"gopher://x/"}`, func(c *holdclient.Client) error {
			_, err := c.UploadPart(ctx, "u", 1, 1, strings.NewReader("x"))
			return err
		}, holdclient.ErrLinkRefused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.do(hostile(t, tt.status, tt.header, tt.body))
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if e := (*holdclient.Error)(nil); tt.status == 429 && (!errors.As(err, &e) || e.RetryAfter != 7*time.Second) {
				t.Errorf("Retry-After: %v", err)
			}
		})
	}
}

func TestHoldDown(t *testing.T) {
	srv := httptest.NewServer(nil)
	srv.Close()
	c := holdclient.New(holdclient.Options{DID: "did:web:hold.test", URL: srv.URL, HTTP: srv.Client()})
	if _, err := c.Captain(t.Context()); !errors.Is(err, holdclient.ErrUnavailable) || !strings.Contains(err.Error(), srv.URL) {
		t.Errorf("got %v", err)
	}
}

func TestTokenFailureEndsTheCall(t *testing.T) {
	dir := identity.NewMockDirectory()
	did, url := ours(t, dir, "did:web:o.test", false)
	c, w := newClient(did, url, true)
	oops := errors.New("PDS is down")
	_, err := c.As(func(context.Context, string, string) (string, error) { return "", oops }).InitiateUpload(t.Context(), "")
	if !errors.Is(err, oops) {
		t.Errorf("got %v", err)
	}
	w.expect(t, "no request is made with an empty token", "POST initiateUpload")
}
