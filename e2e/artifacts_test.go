package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// artifacts pushes a file as an artifact, attaches another to an image, and finds
// it by "oras discover".
func artifacts(t *testing.T, s *stack) {
	oras := realtest.NewOras(t, s.Login)
	file := realtest.File(t, "model.bin", 3<<20, 500)
	must(oras.PushFile(file, "application/vnd.example.model", s.ref("model", ":v1")))(t)
	want := must(os.ReadFile(file))(t)
	nobody := realtest.NewOras(t, s.anonymous())
	if got := must(nobody.PullFile(s.ref("model", ":v1")))(t); !bytes.Equal(got, want) {
		t.Errorf("pulled %d bytes that are not the %d pushed", len(got), len(want))
	}

	crane := realtest.NewCrane(t, s.Login)
	img := realtest.Image(t, realtest.ImageOptions{Layers: 1, Seed: 501})
	must(crane.Push(img, s.ref("signed", ":v1")))(t)
	sbom := must(oras.Attach(realtest.File(t, "sbom.json", 4000, 502), "application/vnd.example.sbom", s.ref("signed", ":v1")))(t)
	sig := must(oras.Attach(realtest.File(t, "sig.json", 400, 503), "application/vnd.example.sig", s.ref("signed", "@"+img.Digest)))(t)
	if got := discover(t, nobody, s.ref("signed", ":v1")); !slices.Equal(got, sorted(sbom, sig)) {
		t.Errorf("referrers %v, want %s and %s", got, sbom, sig)
	}
	must(crane.Run("delete", s.ref("signed", "@"+sig)))(t)
	if got := discover(t, nobody, s.ref("signed", ":v1")); !slices.Equal(got, []string{sbom}) {
		t.Errorf("referrers after one was deleted %v, want %s", got, sbom)
	}
}

func sorted(s ...string) []string { slices.Sort(s); return s }

func discover(t *testing.T, oras *realtest.Oras, ref string) []string {
	t.Helper()
	var found struct {
		Referrers []struct{ Digest string }
	}
	out := must(oras.Discover(ref))(t)
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var digests []string
	for _, r := range found.Referrers {
		digests = append(digests, r.Digest)
	}
	slices.Sort(digests)
	return digests
}
