package local_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
	"github.com/atcr-dev/atcr/repo"
)

// sizes are how many manifests, each with a tag, are in the repository; 100 000 takes half a minute to fill.
func sizes() []int {
	if os.Getenv("ATCR_LONG") != "" {
		return []int{1_000, 10_000, 100_000}
	}
	return []int{1_000, 10_000}
}

// filled is a backend with n tagged manifests in repository app, written as pushes would have.
func filled(b *testing.B, n int, o *local.Options) (*local.Backend, registry.Repository, ocispec.Descriptor) {
	b.Helper()
	backend := open(b, b.TempDir(), o)
	r := name(b, backend, "app")
	push(b, r, "layer", "first")
	layer := ocispec.Descriptor{Digest: digest.FromString("layer"), Size: 5}
	var writes []repo.Write
	put := func(rec atcr.Record, key string, blobs ...repo.Blob) {
		value, err := repo.RecordFrom(rec)
		check(b, err)
		writes = append(writes, repo.Write{Action: repo.Create, Collection: rec.NSID(), RKey: key, Record: value, Blobs: blobs})
	}
	for i := range n {
		m := numbered(b, layer, i)
		put(atcr.NewManifest(atcr.ManifestInput{
			Repository: "app", Digest: m.Digest, MediaType: m.MediaType, SchemaVersion: 2, Config: m.Config, Layers: m.Layers, CreatedAt: fixedTime,
			Blob: &atcr.Blob{CID: repo.BlobCID(m.Bytes).String(), MimeType: m.MediaType, Size: int64(len(m.Bytes))},
		}), m.Digest.Encoded(), repo.Blob{MediaType: m.MediaType, Data: m.Bytes})
		tag := fmt.Sprintf("t%07d", i)
		put(atcr.NewTag("app", tag, atcr.URI{DID: backend.DID(), Collection: atcr.NSIDManifest, RKey: m.Digest.Encoded()}, m.Digest,
			m.MediaType, fixedTime), atcr.TagRKeyClash("app", tag))
		if len(writes) >= 5000 || i == n-1 {
			_, err := backend.Repo().Apply(ctx, writes)
			check(b, err)
			writes = writes[:0]
		}
	}
	return backend, r, layer
}

func numbered(t testing.TB, layer ocispec.Descriptor, i int) registry.ParsedManifest {
	m, err := parse(digest.FromString("{}"), layer, fmt.Sprintf(`,"annotations":{"n":"%d"}`, i))
	check(t, err)
	return m
}

// null is a response that goes nowhere.
type null struct{ header http.Header }

func (n *null) Header() http.Header         { return n.header }
func (n *null) Write(p []byte) (int, error) { return len(p), nil }
func (n *null) WriteHeader(int)             { clear(n.header) }

func serve(b *testing.B, h http.Handler, paths func(i int) string) {
	w := &null{header: http.Header{}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h.ServeHTTP(w, httptest.NewRequest("GET", paths(i), nil))
	}
}

// A pull by tag, of one that is in memory and of ever another one that isn't; a page of tags from the middle.
func BenchmarkGet(b *testing.B) {
	for _, n := range sizes() {
		backend, _, _ := filled(b, n, nil)
		none := *quiet()
		none.CacheBytes = -1
		h := registry.NewHandler(backend, &registry.Options{Log: none.Log})
		b.Run(fmt.Sprintf("tag-cached/%d", n), func(b *testing.B) {
			serve(b, h, func(int) string { return "/v2/app/manifests/t0000500" })
		})
		b.Run(fmt.Sprintf("tag-any/%d", n), func(b *testing.B) {
			serve(b, h, func(i int) string { return fmt.Sprintf("/v2/app/manifests/t%07d", i*7919%n) })
		})
		b.Run(fmt.Sprintf("tags-page-of-100/%d", n), func(b *testing.B) {
			serve(b, h, func(i int) string { return fmt.Sprintf("/v2/app/tags/list?n=100&last=t%07d", i*7919%n) })
		})
		b.Run(fmt.Sprintf("blob-head/%d", n), func(b *testing.B) {
			w := &null{header: http.Header{}}
			for b.Loop() {
				h.ServeHTTP(w, httptest.NewRequest("HEAD", "/v2/app/blobs/"+digest.FromString("layer").String(), nil))
			}
		})
	}
}

// A push of a manifest with a tag, four at once.
func BenchmarkPut(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("manifest/%d", n), func(b *testing.B) {
			_, r, layer := filled(b, n, nil)
			next := make(chan int)
			stop := make(chan struct{})
			defer close(stop)
			go func() {
				for i := n; ; i++ {
					select {
					case next <- i:
					case <-stop:
						return
					}
				}
			}()
			b.SetParallelism(2)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := <-next
					if err := r.PutManifest(ctx, numbered(b, layer, i), []string{fmt.Sprintf("t%07d", i)}); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// A blob of 4 KiB in one request, sixteen at once.
func BenchmarkPutBlob(b *testing.B) {
	backend := open(b, b.TempDir(), nil)
	r := name(b, backend, "app")
	next := make(chan uint64)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for i := uint64(0); ; i++ {
			select {
			case next <- i:
			case <-stop:
				return
			}
		}
	}()
	b.SetParallelism(8)
	b.SetBytes(4096)
	b.RunParallel(func(pb *testing.PB) {
		content := bytes.Repeat([]byte("x"), 4096)
		for pb.Next() {
			copy(content, fmt.Sprintf("%020d", <-next))
			if _, err := pushBlob(r, string(content)); err != nil {
				b.Error(err)
			}
		}
	})
}
