package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// kill -9 of AppView or hold at random points of pushes: whatever was
// acknowledged is there afterwards, verifies, and is known to the hold exactly
// once; the push that was cut works when it is tried again. Nothing is repaired
// by hand. ATCR_SEED repeats a run.
func TestKillDuringPushes(t *testing.T) {
	t.Parallel()
	pushes := 4
	if os.Getenv("ATCR_LONG") != "" {
		pushes = 50
	}
	seed := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("ATCR_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := startServices(t, servicesOptions{})
	crane := realtest.NewCrane(t, s.Login)

	// How long a push takes here says when to kill.
	whole := time.Now()
	must(crane.Push(realtest.Image(t, realtest.ImageOptions{SizeMB: 24, Layers: 2, Seed: 1000}), s.ref("warm", ":v1")))(t)
	duration := time.Since(whole)

	acknowledged := map[string]*realtest.ImageFile{}
	cut := 0
	for i := range pushes {
		img := realtest.Image(t, realtest.ImageOptions{SizeMB: 24, Layers: 2, Seed: uint64(1001 + i)})
		ref := s.ref("kill", fmt.Sprintf(":v%d", i))
		var pushing sync.WaitGroup
		var err error
		pushing.Go(func() { err = pushOnce(img, ref, s.Login) })
		time.Sleep(time.Duration(random.Int64N(int64(duration)))) // the point in time is the test
		if random.IntN(2) == 0 {
			_ = s.app.Kill()
			s.startAppView(t)
		} else {
			_ = s.hold.Kill()
			s.startHold(t)
		}
		pushing.Wait()
		if err != nil {
			cut++
			t.Logf("push %d: %v", i, err)
			must(crane.Push(img, ref))(t)
		}
		acknowledged[fmt.Sprintf(":v%d", i)] = img
		check(t, s, acknowledged)
	}
	t.Logf("%d pushes, %d cut off and repeated", pushes, cut)
	if pushes >= 50 && cut == 0 {
		t.Error("no push was cut off: the kills came too late to show anything")
	}
	for tag, img := range acknowledged {
		if got := must(realtest.NewCrane(t, s.anonymous()).Pull(s.ref("kill", tag)))(t); got != img.Digest {
			t.Errorf("%s is %s, want %s", tag, got, img.Digest)
		}
	}
}

// pushOnce pushes as crane does, but gives up at the first error.
func pushOnce(img *realtest.ImageFile, ref string, login realtest.Login) error {
	to, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		return err
	}
	index, err := layout.ImageIndexFromPath(img.Layout)
	if err != nil {
		return err
	}
	digest, err := v1.NewHash(img.Digest)
	if err != nil {
		return err
	}
	from, err := index.Image(digest)
	if err != nil {
		return err
	}
	never := func(error) bool { return false }
	return remote.Write(to, from, remote.WithAuth(&authn.Basic{Username: login.User, Password: login.Password}),
		remote.WithRetryPredicate(never), remote.WithRetryStatusCodes(), remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
}

// check compares what was acknowledged with the PDS's records and the hold's.
func check(t *testing.T, s *services, acknowledged map[string]*realtest.ImageFile) {
	t.Helper()
	manifests := s.records(t, "io.atcr.manifest")
	for tag, img := range acknowledged {
		find(t, manifests, map[string]any{"digest": img.Digest})
		eventually(t, func() error { return s.holdKnows("kill", img.Digest, img.Blobs) })
		if t.Failed() {
			t.Fatalf("%s is not whole", tag)
		}
	}
}
