package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/registry"
)

var linkForm = regexp.MustCompile(`^<(/v2/[^>]+)>; rel="next"$`)

// pages follows Link from a path to the end and returns the pages.
func (h *host) pages(path string, read func(body string) []string) [][]string {
	h.t.Helper()
	var out [][]string
	for path != "" {
		a := h.must(200, "GET", path, "")
		out = append(out, read(a.body))
		link := a.Header.Get("Link")
		path = ""
		if link != "" {
			m := linkForm.FindStringSubmatch(link)
			if m == nil || len(out) > 1000 {
				h.t.Fatalf("Link %q", link)
			}
			path = m[1]
		}
	}
	return out
}

func readTags(body string) []string {
	var list struct{ Tags []string }
	if err := json.Unmarshal([]byte(body), &list); err != nil || list.Tags == nil {
		panic(body)
	}
	return list.Tags
}

func readNames(body string) []string {
	var list struct{ Repositories []string }
	if err := json.Unmarshal([]byte(body), &list); err != nil || list.Repositories == nil {
		panic(body)
	}
	return list.Repositories
}

func TestTagPages(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{PageSize: 4})
	m, d := h.image("app", "layer")
	tags := []string{"0", "1.0", "10", "A", "_x", "a", "a.b", "a_b", "b", "z"}
	h.must(201, "PUT", "/v2/app/manifests/"+d.String()+"?tag="+strings.Join(tags, "&tag="), m)
	h.pushImage("app_a", "foreign", "layer") // its keys are neighbours
	h.pushImage("app/a", "foreign", "layer")
	for _, test := range []struct {
		query string
		sizes string
	}{
		{"", "[4 4 2]"},
		{"?n=3", "[3 3 3 1]"},
		{"?n=9999999999", "[4 4 2]"},                 // clamped (CVE-2023-2253)
		{"?n=99999999999999999999999999", "[4 4 2]"}, // more than an int
		{"?n=0", "[0]"},                              // no Link
		{"?last=a", "[4]"},                           // exclusive
		{"?n=2&last=a", "[2 2]"},                     //
		{"?last=aa", "[2]"},                          // not a tag, but a place
		{"?last=zz", "[0]"},                          // the end
		{"?n=2&last=" + url.QueryEscape("<&\x01>"), "[2 2 2 1]"}, // garbage is a place as well
	} {
		pages := h.pages("/v2/app/tags/list"+test.query, readTags)
		var sizes []int
		var all []string
		for _, p := range pages {
			sizes = append(sizes, len(p))
			all = append(all, p...)
		}
		if fmt.Sprint(sizes) != test.sizes {
			t.Errorf("%q: pages of %v, want %s", test.query, sizes, test.sizes)
		}
		if !slices.IsSorted(all) || len(all) > 0 && all[len(all)-1] != "z" && test.query != "?n=0" {
			t.Errorf("%q: %q", test.query, all)
		}
		if test.query == "" && !slices.Equal(all, tags) {
			t.Errorf("tags %q, want %q", all, tags)
		}
	}
}

func TestCatalogPages(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{PageSize: 2})
	if got := h.pages("/v2/_catalog", readNames); len(got) != 1 || len(got[0]) != 0 {
		t.Errorf("an empty registry has %q", got)
	}
	names := []string{"a", "a-b", "a.b", "a/b", "a0", "ab/c", "b"}
	for _, name := range names {
		h.pushImage(name, "v1", "layer")
	}
	var all []string
	for _, p := range h.pages("/v2/_catalog", readNames) {
		all = append(all, p...)
	}
	if !slices.Equal(all, names) {
		t.Errorf("names %q, want %q", all, names)
	}
	if got := h.pages("/v2/_catalog?n=9999999999&last=a/b", readNames); fmt.Sprint(got) != "[[a0 ab/c] [b]]" {
		t.Errorf("pages %q", got)
	}
}

// counted is a list without end that knows how much was taken of it.
type counted struct {
	registry.UnimplementedBackend
	registry.Unimplemented
	taken      int
	annotation string
}

func (c *counted) Repository(context.Context, registry.Actor, string) (registry.Repository, error) {
	return c, nil
}

func (c *counted) Tags(_ context.Context, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := 0; ; i++ {
			c.taken++
			if !yield(fmt.Sprintf("%s%09d", after, i), nil) {
				return
			}
		}
	}
}

func (c *counted) Referrers(context.Context, digest.Digest, string, digest.Digest) iter.Seq2[ocispec.Descriptor, error] {
	return func(yield func(ocispec.Descriptor, error) bool) {
		for i := 0; ; i++ {
			c.taken++
			d := ocispec.Descriptor{MediaType: imageType, Digest: digest.FromString(fmt.Sprint(i)), Size: 1,
				Annotations: map[string]string{"a": c.annotation}}
			if !yield(d, nil) {
				return
			}
		}
	}
}

func TestNoPageTakesAll(t *testing.T) {
	t.Parallel()
	c := &counted{}
	h := serve(t, c, registry.Options{})
	h.must(200, "GET", "/v2/app/tags/list?n=9999999999", "")
	if c.taken != 1001 {
		t.Errorf("%d taken for a page of 1000", c.taken)
	}
	c.taken = 0
	h.must(200, "GET", "/v2/app/tags/list?n=3", "")
	if c.taken != 4 {
		t.Errorf("%d taken for a page of 3", c.taken)
	}
	// Referrers are bounded in bytes as well: their annotations are the pusher's.
	c.taken, c.annotation = 0, strings.Repeat("x", 1<<20)
	a := h.must(200, "GET", "/v2/app/referrers/"+digest.FromString("x").String(), "")
	if len(a.body) > 4<<20 || c.taken != 3 {
		t.Errorf("%d bytes, %d taken", len(a.body), c.taken)
	}
	if a.Header.Get("Link") == "" {
		t.Error("no Link")
	}
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{PageSize: 2})
	subject := digest.FromString("not pushed")
	list := func(query string) []ocispec.Descriptor {
		t.Helper()
		var all []ocispec.Descriptor
		h.pages("/v2/app/referrers/"+subject.String()+query, func(body string) []string {
			var index ocispec.Index
			if err := json.Unmarshal([]byte(body), &index); err != nil || index.SchemaVersion != 2 || index.MediaType != indexType ||
				index.Manifests == nil {
				t.Fatalf("body %s: %v", body, err)
			}
			all = append(all, index.Manifests...)
			return nil
		})
		return all
	}
	if got := list(""); len(got) != 0 {
		t.Errorf("referrers of nothing: %v", got)
	}
	field := fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":3}`, imageType, subject)
	m, d := h.image("app", "1", field, `,"artifactType":"application/sbom","annotations":{"by":"me"}`)
	a := h.must(201, "PUT", "/v2/app/manifests/"+d.String(), m)
	if a.Header.Get("OCI-Subject") != subject.String() {
		t.Errorf("OCI-Subject %q", a.Header.Get("OCI-Subject"))
	}
	h.pushImage("app", "sig", "2", field, `,"artifactType":"application/sig"`)
	h.pushImage("app", "plain", "3", field)
	h.pushImage("other", "v1", "4", field)
	got := list("")
	if len(got) != 3 || !slices.IsSortedFunc(got, func(a,
		b ocispec.Descriptor) int {
		return strings.Compare(string(a.Digest), string(b.Digest))
	}) {
		t.Fatalf("referrers %v", got)
	}
	types := []string{got[0].ArtifactType, got[1].ArtifactType, got[2].ArtifactType}
	slices.Sort(types)
	if fmt.Sprint(types) != "[application/sbom application/sig application/vnd.oci.image.config.v1+json]" {
		t.Errorf("artifact types %q", types)
	}
	got = list("?artifactType=application/sbom")
	if len(got) != 1 || got[0].Digest != d || got[0].Annotations["by"] != "me" || got[0].Size != int64(len(m)) {
		t.Errorf("filtered %v", got)
	}
	a = h.must(200, "GET", "/v2/app/referrers/"+subject.String()+"?artifactType=x", "")
	if a.Header.Get("OCI-Filters-Applied") != "artifactType" || a.Header.Get("Content-Type") != indexType {
		t.Errorf("headers %v", a.Header)
	}
	h.must(202, "DELETE", "/v2/app/manifests/"+d.String(), "")
	if got := list(""); len(got) != 2 {
		t.Errorf("after a delete: %v", got)
	}
	h.must(200, "GET", "/v2/nowhere/referrers/"+subject.String(), "") // never 404
}
