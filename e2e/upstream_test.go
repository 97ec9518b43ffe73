package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/upstreamhold"
)

// Push, pull and delete with a hold that has none of our extensions, in each form
// in which such holds give layers away.
func TestUpstreamHold(t *testing.T) {
	t.Parallel()
	for name, form := range map[string]upstreamhold.Form{
		"redirect": upstreamhold.Redirect, "url in JSON": upstreamhold.URLJSON, "bytes": upstreamhold.Bytes,
	} {
		t.Run(name, func(t *testing.T) {
			s := startServices(t, servicesOptions{Upstream: &upstreamhold.Options{Public: true, AllowAllCrew: true, GetBlob: form}})
			img := realtest.Image(t, realtest.ImageOptions{SizeMB: 40, Layers: 2, Seed: 900})
			crane := realtest.NewCrane(t, s.Login)
			must(crane.Push(img, s.ref("app", ":v1")))(t)
			if got := must(realtest.NewSkopeo(t, s.anonymous()).Pull(s.ref("app", ":v1")))(t); got != img.Digest {
				t.Errorf("pulled %s, want %s", got, img.Digest)
			}
			m := find(t, s.records(t, "io.atcr.manifest"), map[string]any{"digest": img.Digest})
			if m.Value["holdDid"] != s.HoldDID {
				t.Errorf("the record names the hold %v, want %s", m.Value["holdDid"], s.HoldDID)
			}
			eventually(t, func() error {
				var got []string
				for _, l := range s.upstream.Layers() {
					got = append(got, fmt.Sprint(l["digest"]))
				}
				want := slices.Clone(img.Blobs[:len(img.Blobs)-1]) // the config is no layer there
				for _, d := range want {
					if !slices.Contains(got, d) {
						return fmt.Errorf("the hold's layer records %v lack %s", got, d)
					}
				}
				return nil
			})
			must(crane.Run("delete", s.ref("app", "@"+img.Digest)))(t)
			if out, err := crane.Run("digest", s.ref("app", ":v1")); err == nil {
				t.Errorf("the deleted tag is %s", out)
			}
			if left := s.records(t, "io.atcr.tag"); len(left) != 0 {
				t.Errorf("tag records left: %v", left)
			}
			for _, r := range s.upstream.Requests() {
				if strings.Contains(r, "uploadPart") { // its parts go to the bucket
					t.Errorf("a part went to the hold: %s", r)
				}
			}
		})
	}
}
