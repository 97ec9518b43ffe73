package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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
	disk    bool // the disk bounds it, not the processor
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
	return slices.Concat(readRows(), writeRows(), fullRows(), networkRows())
}

func readRows() []row {
	three := []string{ours, dist, bare}
	return []row{
		{
			name: "get-digest", what: "GET manifest by digest, 16 clients", unit: "per s", servers: three, goals: []goal{{dist, 5},
				{bare, 0.7}},
			prepare: pushImage, measure: getManifest(func(m []byte) string { return digest.FromBytes(m).String() }),
		},
		{
			name: "get-tag", what: "GET manifest by tag, 16 clients", unit: "per s", servers: three, goals: []goal{{dist, 5}, {bare, 0.7}},
			prepare: pushImage, measure: getManifest(func([]byte) string { return "v1" }),
		},
		{
			name: "get-layer", what: "GET of a 256 MiB layer, 2 clients", unit: "MB/s", servers: three, goals: []goal{{bare, 0.95},
				{dist, 0}},
			prepare: pushLayer, measure: getLayer,
		},
	}
}

func writeRows() []row {
	two := []string{ours, dist}
	return []row{
		{
			name: "put-layer", what: "PUT of a 256 MiB layer: POST, PUT", unit: "MB/s", disk: true, servers: two,
			goals:   []goal{{dist, 1.3}},
			measure: putLayer(false),
		},
		{
			name: "put-layer-patch", what: "the same layer as docker does: POST, PATCH, PUT", unit: "MB/s", disk: true,
			servers: two, goals: []goal{{dist, 0}}, measure: putLayer(true),
		},
		{
			name: "put-small", what: "PUT of 2 000 blobs of 4 KiB, 16 clients: POST, PUT", unit: "per s", disk: true,
			servers: two, goals: []goal{{dist, 4}}, measure: putSmall(false),
		},
		{
			name: "put-small-patch", what: "the same blobs as docker does: POST, PATCH, PUT", unit: "per s", disk: true,
			servers: two, goals: []goal{{dist, 0}}, measure: putSmall(true),
		},
		{
			name: "put-manifest", what: "PUT manifest, 4 clients", unit: "per s", disk: true, servers: two, goals: []goal{{dist, 2}},
			prepare: pushImage, measure: putManifest(repo),
		},
	}
}

// fullRows are about a repository of many tags.
func fullRows() []row {
	two := []string{ours, dist}
	return []row{
		{
			name: "put-manifest-tags", what: "PUT manifest in a repository with 100 000 tags", unit: "per s", disk: true, filled: true,
			servers: two,
			goals:   []goal{{dist, 1.2}}, prepare: fillTags, measure: putManifest(fullRepo),
		},
		{
			name: "get-tag-many", what: "GET manifest by any of 100 000 tags, 16 clients", unit: "per s", filled: true, servers: two,
			goals: []goal{{dist, 0}}, prepare: fillTags, measure: getAnyTag,
		},
		{
			name: "list-tags-many", what: "a page of 100 of 100 000 tags, 4 clients", unit: "per s", filled: true, servers: two,
			goals: []goal{{dist, 0}}, prepare: fillTags, measure: listTags,
		},
	}
}

func networkRows() []row {
	return []row{
		{
			name: "appview-manifest", what: "GET manifest by tag through AppView, hold and PDS, 16 clients", unit: "per s", network: true,
			servers: []string{appview, dist}, goals: []goal{{dist, 2}}, prepare: pushThrough, measure: getThrough,
		},
		{
			name: "appview-layer", what: "GET of a 256 MiB layer through the AppView, 2 clients", unit: "MB/s", network: true,
			servers: []string{appview, hold}, goals: []goal{{hold, 0.8}}, prepare: pushThrough, measure: getLayerThrough,
		},
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
	file, err := os.ReadFile(filepath.Join(b.Folder, "layer"))
	if err != nil {
		return err
	}
	return p.putBlob(ctx, repo, file, digest.FromBytes(file), false)
}

func getLayer(ctx context.Context, b *bench, s *server) (float64, error) {
	file, err := os.ReadFile(filepath.Join(b.Folder, "layer"))
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
		return fillTagFiles(b, s, b.scale(b.config.tags))
	}
	return nil
}

// anyTag is one of the many.
func (b *bench) anyTag(i int) string { return fmt.Sprintf("full-%06d", i*7919%b.scale(b.config.tags)) }

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
