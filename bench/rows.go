package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
)

// goal is a ratio of ours to another server.
type goal struct {
	to    string
	least float64
}

// row is one kind of work.
type row struct {
	name    string
	what    string
	unit    string
	network bool // through the AppView of the sandbox
	filled  bool // in the repository of many tags
	servers []string
	goals   []goal
	prepare func(context.Context, *bench, *server) error
	measure func(context.Context, *bench, *server) (rate float64, err error)
}

// of is the server that the row is about.
func (r row) of() string { return r.servers[0] }

const repo = "bench/app"

func allRows() []row {
	two, three := []string{ours, dist}, []string{ours, dist, bare}
	return []row{
		{"get-digest", "GET manifest by digest, 16 clients", "per s", false, false, three, []goal{{dist, 5}, {bare, 0.7}}, pushImage, getManifest(func(m []byte) string { return digest.FromBytes(m).String() })},
		{"get-tag", "GET manifest by tag, 16 clients", "per s", false, false, three, []goal{{dist, 5}, {bare, 0.7}}, pushImage, getManifest(func([]byte) string { return "v1" })},
		{"get-layer", "GET of a 256 MiB layer, 2 clients", "MB/s", false, false, three, []goal{{bare, 0.95}, {dist, 0}}, pushLayer, getLayer},
		{"put-layer", "PUT of a 256 MiB layer: POST, PUT", "MB/s", false, false, two, []goal{{dist, 1.3}}, nil, putLayer(false)},
		{"put-layer-patch", "the same as docker does: POST, PATCH, PUT", "MB/s", false, false, two, []goal{{dist, 0}}, nil, putLayer(true)},
		{"put-small", "PUT of 2 000 blobs of 4 KiB, 16 clients: POST, PUT", "per s", false, false, two, []goal{{dist, 4}}, nil, putSmall(false)},
		{"put-small-patch", "the same as docker does: POST, PATCH, PUT", "per s", false, false, two, []goal{{dist, 0}}, nil, putSmall(true)},
		{"put-manifest", "PUT manifest, 4 clients", "per s", false, false, two, []goal{{dist, 2}}, pushImage, putManifest(repo)},
		{"put-manifest-tags", "the same in a repository with 100 000 tags", "per s", false, true, two, []goal{{dist, 1.2}}, fillTags, putManifest(fullRepo)},
		{"get-tag-many", "GET manifest by any of 100 000 tags, 16 clients", "per s", false, true, two, []goal{{dist, 0}}, fillTags, getAnyTag},
		{"list-tags-many", "a page of 100 of 100 000 tags, 4 clients", "per s", false, true, two, []goal{{dist, 0}}, fillTags, listTags},
		{"appview-manifest", "GET manifest by tag through AppView, hold and PDS, 16 clients", "per s", true, false, []string{appview, dist}, []goal{{dist, 2}}, pushThrough, getThrough},
		{"appview-layer", "GET of a 256 MiB layer through the AppView, 2 clients", "MB/s", true, false, []string{appview, hold}, []goal{{hold, 0.8}}, pushThrough, getLayerThrough},
	}
}

// pushImage stores what manifests name, and one manifest under the tag v1.
func pushImage(ctx context.Context, _ *bench, s *server) error {
	if s.name == bare {
		return nil
	}
	return pushImageTo(ctx, s, repo)
}

func pushImageTo(ctx context.Context, s *server, repo string) error {
	p := newPusher(s)
	defer p.close()
	config, layer := sizedBlob(configSize), sizedBlob(layerSize)
	for _, b := range [][]byte{config, layer} {
		if err := p.putBlob(ctx, repo, b, digest.FromBytes(b), false); err != nil {
			return err
		}
	}
	return p.putManifest(ctx, repo, "v1", manifest(config, layer, 0))
}

func getManifest(ref func([]byte) string) func(context.Context, *bench, *server) (float64, error) {
	return func(ctx context.Context, b *bench, s *server) (float64, error) {
		const clients = 16
		m := manifest(sizedBlob(configSize), sizedBlob(layerSize), 0)
		req := request(s, "/v2/"+repo+"/manifests/"+ref(m))
		n := b.scale(30_000)
		if s.name == dist {
			n /= 4 // for about as long
		}
		return getAll(ctx, s, clients, n, func(int) []byte { return req }, int64(len(m)))
	}
}

// getAll sends n requests whose answers have size bytes, or any number when size is negative.
func getAll(ctx context.Context, s *server, clients, n int, req func(i int) []byte, size int64) (float64, error) {
	conns := make([]*rawConn, clients)
	for i := range conns {
		c, err := dial(ctx, s)
		if err != nil {
			return 0, err
		}
		defer c.c.Close()
		conns[i] = c
	}
	return timed(clients, n, func(c, i int) error {
		got, err := conns[c].get(req(i))
		if err == nil && size >= 0 && got != size {
			err = fmt.Errorf("answer of %d bytes, want %d", got, size)
		}
		return err
	})
}

// pushLayer stores the large layer as it lies in the file of the bare server.
func pushLayer(ctx context.Context, b *bench, s *server) error {
	if s.name == bare {
		return nil
	}
	p := newPusher(s)
	defer p.close()
	file, err := os.ReadFile(filepath.Join(b.dir, "layer"))
	if err != nil {
		return err
	}
	return p.putBlob(ctx, repo, file, digest.FromBytes(file), false)
}

func getLayer(ctx context.Context, b *bench, s *server) (float64, error) {
	file, err := os.ReadFile(filepath.Join(b.dir, "layer"))
	if err != nil {
		return 0, err
	}
	const clients, times = 2, 4
	req := request(s, "/v2/"+repo+"/blobs/"+digest.FromBytes(file).String())
	rate, err := getAll(ctx, s, clients, times, func(int) []byte { return req }, int64(len(file)))
	return rate * float64(len(file)) / 1e6, err
}

func putLayer(patch bool) func(context.Context, *bench, *server) (float64, error) {
	return func(ctx context.Context, b *bench, s *server) (float64, error) {
		p := newPusher(s)
		defer p.close()
		layer, d := b.freshLayer()
		rate, err := timed(1, 1, func(int, int) error { return p.putBlob(ctx, repo, layer, d, patch) })
		return rate * float64(len(layer)) / 1e6, err
	}
}

func putSmall(patch bool) func(context.Context, *bench, *server) (float64, error) {
	return func(ctx context.Context, b *bench, s *server) (float64, error) {
		p := newPusher(s)
		defer p.close()
		b.serial++
		n := b.scale(2000)
		blobs := make([][]byte, n)
		digests := make([]digest.Digest, n)
		for i := range blobs {
			blobs[i] = sizedBlob(4096)
			binary.BigEndian.PutUint64(blobs[i], uint64(b.serial))
			binary.BigEndian.PutUint64(blobs[i][8:], uint64(i))
			digests[i] = digest.FromBytes(blobs[i])
		}
		return timed(16, n, func(_, i int) error { return p.putBlob(ctx, repo, blobs[i], digests[i], patch) })
	}
}

func putManifest(repo string) func(context.Context, *bench, *server) (float64, error) {
	return func(ctx context.Context, b *bench, s *server) (float64, error) {
		p := newPusher(s)
		defer p.close()
		config, layer := sizedBlob(configSize), sizedBlob(layerSize)
		n := b.scale(600)
		ms := make([][]byte, n)
		base := (b.serial + 1) * 1_000_000
		b.serial++
		for i := range ms {
			ms[i] = manifest(config, layer, base+i)
		}
		return timed(4, n, func(_, i int) error { return p.putManifest(ctx, repo, fmt.Sprintf("t%d", base+i), ms[i]) })
	}
}

// fullRepo has many tags.
const fullRepo = "bench/full"

// fillTags makes the tags: as files there, where one push after the other would take too long, and before the start here.
func fillTags(ctx context.Context, b *bench, s *server) error {
	if s.filled {
		return nil
	}
	s.filled = true
	if err := pushImageTo(ctx, s, fullRepo); err != nil {
		return err
	}
	if s.name == dist {
		return fillTagFiles(b, s, b.scale(b.tags))
	}
	return nil
}

// anyTag is one of the many.
func (b *bench) anyTag(i int) string { return fmt.Sprintf("full-%06d", i*7919%b.scale(b.tags)) }

func getAnyTag(ctx context.Context, b *bench, s *server) (float64, error) {
	n := b.scale(20_000)
	if s.name == dist {
		n /= 4
	}
	return getAll(ctx, s, 16, n, func(i int) []byte { return request(s, "/v2/"+fullRepo+"/manifests/"+b.anyTag(i)) }, -1)
}

func listTags(ctx context.Context, b *bench, s *server) (float64, error) {
	n := b.scale(2000)
	if s.name == dist {
		n = b.scale(10) // it reads all tags for each page
	}
	p := newPusher(s)
	defer p.close()
	return timed(4, n, func(_, i int) error {
		_, err := p.do(ctx, http.MethodGet, "/v2/"+fullRepo+"/tags/list?n=100&last="+b.anyTag(i), "", nil, http.StatusOK)
		return err
	})
}

// fillTagFiles writes links as distribution would: each tag's present one. It would also write one for each digest that the
// tag ever had, which these rows never read, and which would double the time to write and to remove them all.
func fillTagFiles(b *bench, s *server, tags int) error {
	d := digest.FromBytes(manifest(sizedBlob(configSize), sizedBlob(layerSize), 0))
	root := filepath.Join(s.data, "docker/registry/v2/repositories", fullRepo, "_manifests/tags")
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for k := range cap(errs) {
		wg.Go(func() {
			for i := k; i < tags; i += cap(errs) {
				tag := filepath.Join(root, fmt.Sprintf("full-%06d", i))
				if err := os.MkdirAll(filepath.Join(tag, "current"), 0o750); err != nil {
					errs <- err
					return
				}
				if err := os.WriteFile(filepath.Join(tag, "current", "link"), []byte(d), 0o600); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}
