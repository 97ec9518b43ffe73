package e2e

import (
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// The sandbox's hold is a did:plc, and images are pushed to it and pulled from it by docker and crane.
func TestSandboxHoldIsDIDPLC(t *testing.T) {
	t.Parallel()
	s, _ := sandbox(t, t.TempDir())
	if !strings.HasPrefix(s.HoldDID, "did:plc:") {
		t.Fatalf("the hold is %s", s.HoldDID)
	}
	img := realtest.Image(t, realtest.ImageOptions{Layers: 2, Seed: 4200})
	for _, c := range []realtest.Client{realtest.NewCrane(t, s.Login), realtest.NewDocker(t, s.Login)} {
		ref := s.ref("app", ":"+c.Name())
		pushed := must(c.Push(img, ref))(t)
		if got := must(c.Pull(ref))(t); got != pushed {
			t.Errorf("%s pulled %s, pushed %s", c.Name(), got, pushed)
		}
	}
	eventually(t, func() error { return s.holdKnows("app", img.Digest, img.Blobs) })
}
