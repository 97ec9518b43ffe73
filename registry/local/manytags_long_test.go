package local_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
	"github.com/atcr-dev/atcr/repo"
)

// A manifest with more tags than one Apply takes.
func TestDeleteManifestWithManyTags(t *testing.T) {
	t.Parallel()
	if os.Getenv("ATCR_LONG") == "" {
		t.Skip("long: set ATCR_LONG=1")
	}
	b := open(t, t.TempDir(), nil)
	r := name(t, b, "app")
	m := push(t, r, "layer", "first")
	keep := push(t, r, "keep", "keep")
	seedTags(t, b, "app", m, repo.MaxWrites+10)
	check(t, r.DeleteManifest(ctx, m.Digest))
	if got := collect(t, r.Tags(ctx, "")); !slices.Equal(got, []string{"keep"}) {
		t.Errorf("%d tags are left", len(got))
	}
	if tagged(t, r, "keep") != keep.Digest {
		t.Error("a neighbour was hurt")
	}
}

// seedTags writes tag records as many pushes would have.
func seedTags(t testing.TB, b *local.Backend, repository string, m registry.ParsedManifest, n int) {
	t.Helper()
	uri := atcr.URI{DID: b.DID(), Collection: atcr.NSIDManifest, RKey: m.Digest.Encoded()}
	rec := atcr.NewTag(repository, "x", uri, m.Digest, m.MediaType, fixedTime)
	var writes []repo.Write
	for i := range n {
		rec.Tag = fmt.Sprintf("t%06d", i)
		value, err := repo.RecordFrom(rec)
		check(t, err)
		writes = append(writes, repo.Write{Action: repo.Create, Collection: atcr.NSIDTag, RKey: atcr.TagRKeyClash(repository, rec.Tag),
			Record: value})
		if len(writes) == 5000 || i == n-1 {
			_, err := b.Repo().Apply(ctx, writes)
			check(t, err)
			writes = writes[:0]
		}
	}
}
