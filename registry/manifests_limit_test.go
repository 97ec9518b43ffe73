package registry_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
)

// What some server on the way would refuse later is refused before anything is written; what is only long is taken.
func TestManifestWithManyLayers(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	config, layer := h.pushBlob("app", "{}"), h.pushBlob("app", "layer")
	text := func(n int, which func(int) digest.Digest) string {
		layers := make([]string, n)
		for i := range layers {
			layers[i] = fmt.Sprintf(`{"mediaType":"a/b","digest":%q,"size":5}`, which(i))
		}
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[%s]}`,
			imageType, config, strings.Join(layers, ","))
	}
	same := func(int) digest.Digest { return layer }
	other := func(i int) digest.Digest { return digest.FromString(fmt.Sprint(i)) }
	h.must(201, "PUT", "/v2/app/manifests/same", text(20_000, same), "Content-Type", imageType)
	// 9 999 and the config: refused for what isn't there, not for their number.
	a := h.must(404, "PUT", "/v2/app/manifests/most", text(9_999, other), "Content-Type", imageType)
	if a.code(t) != "MANIFEST_BLOB_UNKNOWN" {
		t.Error(a.body)
	}
	a = h.must(400, "PUT", "/v2/app/manifests/more", text(10_000, other), "Content-Type", imageType)
	if a.code(t) != "MANIFEST_INVALID" || !strings.Contains(a.body, "10001 different") {
		t.Error(a.body)
	}
	h.must(404, "GET", "/v2/app/manifests/more", "")
}
