package pds_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/registry"
)

// TestMissingTag: who asks for a tag that isn't there is told of some that are.
func TestMissingTag(t *testing.T) {
	w := newWorld(t, devnetPDS)
	w.push("app", newImage(t, "one", nil), "v1")
	w.push("many", newImage(t, "two", nil), "a", "b", "c", "d", "e", "f")
	for name, want := range map[string]string{
		"app":  "alice.test/app has no tag v9; it has v1",
		"many": "alice.test/many has no tag v9; it has a, b, c, d, e and others",
	} {
		for _, who := range []string{"", "alice"} {
			_, err := w.repo(who, "alice", name).Manifest(t.Context(), registry.Ref{Tag: "v9"})
			wantKind(t, err, registry.ErrManifestUnknown)
			if e := (*registry.Error)(nil); !errors.As(err, &e) || !strings.HasSuffix(e.Message, want) {
				t.Errorf("%s, as %q: %v", name, who, err)
			}
		}
		err := w.repo("alice", "alice", name).DeleteTag(t.Context(), "v9")
		if e := (*registry.Error)(nil); !errors.As(err, &e) || !strings.Contains(e.Message, "has no tag v9; it has ") {
			t.Errorf("delete of %s: %v", name, err)
		}
	}
}

// TestNameWithoutHandle: what can be nobody's is not found, not refused as malformed, or clients would stop at a HEAD, which has no text.
func TestNameWithoutHandle(t *testing.T) {
	w := newWorld(t, devnetPDS)
	for _, name := range []string{"app", "team/app", "did-plc-short/app"} {
		_, err := w.backend.Repository(t.Context(), registry.Actor{}, name)
		wantKind(t, err, registry.ErrNameUnknown)
	}
	_, err := w.backend.Repository(t.Context(), registry.Actor{}, "alice.test/-app")
	wantKind(t, err, registry.ErrNameInvalid)
}
