package local_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
)

var fixedTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// parallel runs f n times at once and reports its errors.
func parallel(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := f(i); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

func Test64PushTheSameLayer(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir(), nil)
	parallel(t, 64, func(i int) error {
		r, err := b.Repository(ctx, registry.Actor{}, fmt.Sprintf("app%d", i%4))
		if err != nil {
			return err
		}
		m, err := image(r, "the same layer", "")
		if err != nil {
			return err
		}
		return r.PutManifest(ctx, m, []string{"v1", fmt.Sprintf("c%d", i)})
	})
	for i := range 64 {
		r := name(t, b, fmt.Sprintf("app%d", i%4))
		tagged(t, r, fmt.Sprintf("c%d", i))
		if readBlob(t, r, digest.FromString("the same layer")) != "the same layer" {
			t.Error("the layer is another")
		}
	}
}

// A tag that is there always leads to a manifest, and after the last writer every reader sees what it wrote.
func Test64MoveAndDeleteTheSameTag(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir(), nil)
	r := name(t, b, "app")
	var images []registry.ParsedManifest
	for i := range 8 {
		images = append(images, push(t, r, fmt.Sprint("layer", i), fmt.Sprint("keep", i)))
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				m, err := r.Manifest(ctx, registry.Ref{Tag: "moving"})
				if err != nil && !errors.Is(err, registry.ErrManifestUnknown) {
					t.Errorf("read: %v", err)
				}
				if err == nil && digest.FromBytes(m.Bytes) != m.Digest {
					t.Error("bytes of another manifest")
				}
			}
		})
	}
	parallel(t, 64, func(i int) error {
		m := images[i%len(images)]
		switch i % 3 {
		case 0, 1:
			return r.PutManifest(ctx, m, []string{"moving"})
		default:
			if err := r.DeleteTag(ctx, "moving"); err != nil && !errors.Is(err, registry.ErrManifestUnknown) {
				return err
			}
			return nil
		}
	})
	close(stop)
	readers.Wait()
	for round := range 50 {
		want := images[round%len(images)]
		check(t, r.PutManifest(ctx, want, []string{"moving"}))
		if got := tagged(t, r, "moving"); got != want.Digest {
			t.Fatalf("round %d: %s, want %s", round, got, want.Digest)
		}
	}
	check(t, r.DeleteTag(ctx, "moving"))
	if _, err := r.Manifest(ctx, registry.Ref{Tag: "moving"}); !errors.Is(err, registry.ErrManifestUnknown) {
		t.Errorf("after the delete: %v", err)
	}
}

// Pushes and deletes of the same image: what is acknowledged last holds, and never a tag without its manifest.
func TestPushAgainstDelete(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir(), nil)
	r := name(t, b, "app")
	child := push(t, r, "layer", "child")
	index, err := registry.ParseManifest("application/vnd.oci.image.index.v1+json",
		fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, child.MediaType, child.Digest,
			len(child.Bytes)), "")
	check(t, err)
	layer := digest.FromString("layer")
	parallel(t, 32, func(i int) error {
		for range 5 {
			var err error
			switch i % 4 {
			case 0:
				err = r.PutManifest(ctx, child, []string{"child"})
			case 1:
				err = r.PutManifest(ctx, index, []string{"index"})
			case 2:
				err = r.DeleteManifest(ctx, child.Digest)
			default:
				if err = r.DeleteBlob(ctx, layer); err == nil || errors.Is(err, registry.ErrBlobUnknown) {
					_, err = pushBlob(r, "layer")
				}
			}
			if err != nil && !errors.Is(err, registry.ErrManifestBlobUnknown) && !errors.Is(err, registry.ErrManifestUnknown) &&
				!errors.Is(err, registry.ErrNameUnknown) {
				return err
			}
		}
		return nil
	})
	for _, tag := range collect(t, r.Tags(ctx, "")) {
		tagged(t, r, tag)
	}
	if readBlob(t, r, layer) != "layer" {
		t.Error("the blob that was pushed last is gone")
	}
}
