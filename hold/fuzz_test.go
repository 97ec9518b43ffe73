package hold

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/storage/memstore"
)

// fuzzHold is a hold whose captain is whoever asks, so that bodies are reached.
func fuzzHold(f *testing.F) *Server {
	s, err := New(f.Context(), Config{
		Dir: f.TempDir(), PublicURL: "http://localhost:8080", TestMode: true, OwnerDID: "did:web:o.test", Storage: memstore.New(), Public: true,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	return s
}

// FuzzMethodBodies: whatever stands in a body, a method answers, and never with a 500.
func FuzzMethodBodies(f *testing.F) {
	s := fuzzHold(f)
	methods := s.methods()
	for name := range methods {
		f.Add(name, `{}`)
	}
	d := digest.FromString("x").String()
	f.Add("io.atcr.hold.checkBlobs", `{"repository":"a/b","digests":["`+d+`"]}`)
	f.Add("io.atcr.hold.completeUpload", `{"uploadId":"x","digest":"`+d+`","parts":[{"partNumber":1,"etag":"\"a\""}]}`)
	f.Add("io.atcr.hold.notifyManifest", `{"repository":"a","userDid":"did:web:o.test","manifestDigest":"`+d+
		`","operation":"delete","manifest":{"layers":[]}}`)
	f.Add("io.atcr.hold.setStats", `{"ownerDid":"did:web:o.test","repository":"a","pullCount":1e3,"lastPull":"2026-01-01T00:00:00Z"}`)
	f.Add("com.atproto.repo.deleteRecord", `{"repo":"did:web:localhost%3A8080","collection":"io.atcr.hold.stats","rkey":"a","swapRecord":"bafy"}`)
	f.Fuzz(func(t *testing.T, name, body string) {
		m, ok := methods[name]
		if !ok || m.run == nil || name == "io.atcr.hold.notifyManifest" && strings.Contains(body, "did:") && !strings.Contains(body, "delete") {
			return
		}
		r := httptest.NewRequest(http.MethodPost, "/xrpc/"+name, nil).WithContext(t.Context())
		c := &call{r: r, caller: "did:web:o.test", rights: rights{Captain: true, Read: true, Write: true, Admin: true}, body: []byte(body)}
		if name == "io.atcr.hold.notifyManifest" {
			var n notice
			if c.decode(&n) == nil {
				_ = n.check()
			}
			return // the rest asks a PDS
		}
		_, err := m.run(t.Context(), c)
		if err != nil && classify(err).status == http.StatusInternalServerError {
			t.Errorf("%s %q: %v", name, body, err)
		}
	})
}

// FuzzRequest: no headers, queries and paths make a 500.
func FuzzRequest(f *testing.F) {
	s := fuzzHold(f)
	f.Add("/blobs/sha256:00?t=1.x", "", "", "")
	f.Add("/xrpc/com.atproto.sync.getBlob?did=did:web:a.test&cid=bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
		"Bearer a.b.c", "bytes=0-1,-1", "1")
	f.Add("/xrpc/io.atcr.hold.uploadPart", "DPoP x", "", "18446744073709551616")
	f.Add("/xrpc/io.atcr.hold.getUpload?uploadId=%00", "Bearer eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJkaWQ6d2ViOmEifQ.AA", "", "-0")
	f.Fuzz(func(t *testing.T, target, authorization, byteRange, part string) {
		for _, verb := range []string{http.MethodGet, http.MethodPut, http.MethodPost} {
			r, err := http.NewRequestWithContext(t.Context(), verb, "http://localhost:8080", strings.NewReader("x"))
			if err != nil || !strings.HasPrefix(target, "/") {
				return
			}
			if u, err := r.URL.Parse(target); err == nil && u.Host == r.URL.Host {
				r.URL = u
			}
			r.Header["Authorization"], r.Header["Range"] = []string{authorization}, []string{byteRange}
			r.Header["X-Part-Number"], r.Header["X-Upload-Id"] = []string{part}, []string{authorization}
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			if w.Code == http.StatusInternalServerError {
				t.Errorf("%s %s: %s", verb, target, w.Body)
			}
		}
	})
}

// FuzzManifestRecord: a record from a PDS is read or refused.
func FuzzManifestRecord(f *testing.F) {
	s := fuzzHold(f)
	f.Add([]byte(`{"repository":"a","digest":"sha256:00","holdDid":"did:web:localhost%3A8080","manifestBlob":{"$type":"blob","ref":{"$link":"b"}}}`))
	f.Add([]byte(`{"holdEndpoint":"http://localhost:8080/","digest":7}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &manifestRecord{}
		if json.Unmarshal(b, &m.Manifest) == nil {
			_ = s.notices.namesUs(m)
			_ = m.OCIDigest()
		}
	})
}

// FuzzLinks: a link is good for one blob and one time, in one spelling.
func FuzzLinks(f *testing.F) {
	now := time.Unix(1_790_000_000, 0)
	b := &blobs{publicURL: "https://hold.example.com", linkKey: []byte("0123456789abcdef0123456789abcdef"), clock: func() time.Time { return now }}
	d, other := digest.FromString("x"), digest.FromString("y")
	link, err := url.Parse(b.link(d))
	if err != nil {
		f.Fatal(err)
	}
	good := link.Query().Get("t")
	if !b.linkHolds(d, good) || b.linkHolds(other, good) {
		f.Fatal("a link of ours does not hold, or holds for another blob")
	}
	at, mac, _ := strings.Cut(good, ".")
	for _, s := range []string{good, "", ".", at, at + ".", "." + mac, "0" + good, "+" + good, good + "=", good + ".x", strings.ToUpper(good), "9" + good,
		"-1." + mac, "99999999999999999999." + mac, at + "." + mac[:len(mac)-1]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if b.linkHolds(d, s) && s != good || b.linkHolds(other, s) {
			t.Fatalf("%q holds", s)
		}
	})
}
