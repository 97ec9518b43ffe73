package registry

import (
	"net/url"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/oci"
)

// FuzzRequest: whatever the URL, what comes out of the parser is safe to hand on.
func FuzzRequest(f *testing.F) {
	hex := strings.Repeat("a", 64)
	for _, s := range []string{"/v2/", "/v2/_catalog?n=5&last=a", "/v2/a/b/tags/list?n=0", "/v2/a/manifests/v1?tag=x",
		"/v2/a/blobs/sha256:" + hex,
		"/v2/a/blobs/uploads/", "/v2/a/blobs/uploads?mount=sha256:" + hex + "&from=b", "/v2/a/blobs/uploads/id?digest=sha256:" + hex,
		"/v2/a/referrers/sha256:" + hex + "?artifactType=x&last=sha256:" +
			hex, "/v2/blobs/uploads/blobs/uploads/x", "/v2/%2e%2e/manifests/x", "/v2/a%2fb/manifests/manifests/x", "//v2//", "/v2/tags/list/tags/list"} {
		for _, method := range []string{"GET", "PUT", "POST", "PATCH", "DELETE"} {
			f.Add(method, s)
		}
	}
	f.Fuzz(func(t *testing.T, method, raw string) {
		u, err := url.ParseRequestURI(raw)
		if err != nil {
			t.Skip()
		}
		r, err := parseRequest(method, u, nil)
		if err != nil {
			if toError(err).Status >= 500 {
				t.Fatalf("%s %q: %v", method, raw, err)
			}
			return
		}
		onRepository := operations[r.op].run != nil
		if onRepository == (r.op == opPing || r.op == opCatalog) {
			t.Fatalf("%s %q: operation %q", method, raw, r.op)
		}
		if onRepository && oci.CheckName(r.repo) != nil || r.from != "" && oci.CheckName(r.from) != nil {
			t.Fatalf("%s %q: name %q, from %q", method, raw, r.repo, r.from)
		}
		for _, d := range []string{r.digest.String(), r.ref.Digest.String(), r.mount.String()} {
			if _, err := oci.ParseDigest(d); d != "" && err != nil {
				t.Fatalf("%s %q: digest %q", method, raw, d)
			}
		}
		for _, tag := range append([]string{r.ref.Tag}, r.tags...) {
			if tag != "" && oci.CheckTag(tag) != nil {
				t.Fatalf("%s %q: tag %q", method, raw, tag)
			}
		}
		if r.page.n < -1 || len(r.page.last) > maxLast || strings.ContainsAny(r.upload, "/ \x00\r\n") {
			t.Fatalf("%s %q: %+v", method, raw, r)
		}
		if isManifest := r.op == opManifestGet || r.op == opManifestPut || r.op == opManifestDelete; isManifest &&
			(r.ref.Tag == "") == (r.ref.Digest == "") {
			t.Fatalf("%s %q: reference %+v", method, raw, r.ref)
		}
	})
}

// FuzzPage: n and last survive the way through a Link.
func FuzzPage(f *testing.F) {
	for _, s := range []string{"n=1&last=a", "n=-1", "n=abc", "n=9999999999", "last=%00", "n=1&n=2", "last=<>;&n=3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := url.ParseQuery(raw)
		if err != nil {
			t.Skip()
		}
		p, err := parsePage(query)
		if err != nil {
			return
		}
		h := &Handler{opts: Options{PageSize: 100}}
		if n := h.limit(p); n < 0 || n > 100 {
			t.Fatalf("%q: limit %d", raw, n)
		}
		link := nextLink("/v2/a/tags/list", url.Values{}, 5, p.last)
		target, _, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
		u, err := url.Parse(target)
		if !ok || err != nil || strings.ContainsAny(link, "\r\n") || !strings.HasSuffix(link, `>; rel="next"`) {
			t.Fatalf("Link %q: %v", link, err)
		}
		if again, err := parsePage(u.Query()); err != nil || again.last != p.last || again.n != 5 {
			t.Fatalf("Link %q: %+v, %v", link, again, err)
		}
	})
}
