package backup

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/storage"
)

// atOnce is how many layers are copied at a time.
const atOnce = 4

const blobsFolder = layersFolder + "docker/registry/v2/blobs/"

// layerName is where a layer lies at the target. Names sort as digests do.
func layerName(d digest.Digest) string {
	hex := d.Encoded()
	return blobsFolder + d.Algorithm().String() + "/" + hex[:2] + "/" + hex + "/data"
}

func layerOf(name string) (digest.Digest, bool) {
	parts := strings.Split(strings.TrimPrefix(name, blobsFolder), "/")
	if len(parts) != 4 || parts[3] != "data" {
		return "", false
	}
	d := digest.Digest(parts[0] + ":" + parts[2])
	return d, storage.CheckDigest(d) == nil && layerName(d) == name
}

// layersNamed returns the digests that layer records of a CAR name, in order, each once.
func layersNamed(ctx context.Context, car *repo.CAR) ([]digest.Digest, error) {
	var all []digest.Digest
	for rec, err := range car.Records(ctx) {
		if err != nil {
			return nil, err
		}
		if rec.Collection != atcr.NSIDLayer {
			continue
		}
		if d, ok := layerDigest(rec); ok {
			all = append(all, d)
			if len(all) == cap(all) { // before it grows
				slices.Sort(all)
				all = slices.Compact(all)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// layerDigest reads a record; one that breaks its lexicon names nothing.
func layerDigest(rec repo.Record) (digest.Digest, bool) {
	js, err := rec.JSON()
	if err != nil {
		return "", false
	}
	var l struct {
		Digest digest.Digest `json:"digest"`
	}
	if json.Unmarshal(js, &l) != nil || storage.CheckDigest(l.Digest) != nil {
		return "", false
	}
	return l.Digest, true
}

// layer is a line of layers.txt.
type layer struct {
	Digest digest.Digest
	Size   int64
}

func (l layer) write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s %d\n", l.Digest, l.Size)
	return err
}

// readLayers iterates over the lines of layers.txt, which must rise.
func readLayers(r io.Reader) iter.Seq2[layer, error] {
	return func(yield func(layer, error) bool) {
		sc := bufio.NewScanner(r)
		last := digest.Digest("")
		for n := 1; sc.Scan(); n++ {
			d, size, ok := strings.Cut(sc.Text(), " ")
			l := layer{Digest: digest.Digest(d)}
			var err error
			l.Size, err = strconv.ParseInt(size, 10, 64)
			if !ok || err != nil || l.Size < 0 || storage.CheckDigest(l.Digest) != nil || l.Digest <= last {
				yield(layer{}, fmt.Errorf("%w: %s, line %d", ErrDamaged, layersFile, n))
				return
			}
			last = l.Digest
			if !yield(l, nil) {
				return
			}
		}
		if err := sc.Err(); err != nil {
			yield(layer{}, fmt.Errorf("%s: %w", layersFile, err))
		}
	}
}

// atTarget returns a function that tells the size of a layer at the target, or -1. It must be asked in order of digests; the target
// is listed once. Call stop in the end.
func atTarget(ctx context.Context, t Target) (size func(digest.Digest) (int64, error), stop func()) {
	next, stop := iter.Pull2(t.List(ctx, layersFolder))
	var have Entry
	var at digest.Digest
	more := true
	return func(d digest.Digest) (int64, error) {
		for more && at < d {
			var err error
			if have, err, more = next(); err != nil {
				return 0, err
			}
			if is, ok := layerOf(have.Name); more && ok {
				at = is
			}
		}
		if more && at == d {
			return have.Size, nil
		}
		return -1, nil
	}, stop
}

// copyLayers brings the layers that are not at the target yet, and writes the list of those of the set. missing are those that the
// hold hasn't, or not as they should be. One that is at the target without being listed in known is read: somebody else may have put
// it there.
func copyLayers(ctx context.Context, t Target, from datadir.LayerReader, digests []digest.Digest, known *layerCursor, list io.Writer,
	progress Progress) (sum Layers, missing []digest.Digest, err error) {
	size, stop := atTarget(ctx, t)
	defer stop()
	c := newCopier(ctx)
	there := make([]layer, 0, len(digests))
	type copying struct {
		layer
		have bool // something of its size is there
	}
	var todo []copying
	var all int64
	var copied atomic.Int64
	for _, d := range digests {
		info, err := from.Stat(c.ctx, d)
		if errors.Is(err, storage.ErrNotFound) {
			c.lose(d)
			continue
		}
		if err != nil {
			c.fail(err)
			break
		}
		have, err := size(d)
		if err != nil {
			c.fail(err)
			break
		}
		trusted, err := known.names(d)
		if err != nil {
			c.fail(err)
			break
		}
		l := layer{d, info.Size}
		there = append(there, l)
		if have != info.Size || !trusted {
			todo = append(todo, copying{l, have == info.Size})
			all += info.Size
		}
	}
	var m *meter
	if len(todo) > 0 {
		m = newMeter(progress, all)
	}
	for _, l := range todo {
		if c.ctx.Err() != nil {
			break
		}
		c.run(func(ctx context.Context) error {
			if l.have {
				if good, err := readLayer(ctx, t, l.layer, m); good || err != nil {
					return err
				}
			}
			copied.Add(1)
			whole, err := copyLayer(ctx, t, from, l.Digest, m)
			if err == nil && !whole {
				c.lose(l.Digest)
			}
			return err
		})
	}
	if err := c.wait(); err != nil {
		return sum, nil, err
	}
	sum.Copied = copied.Load()
	out := bufio.NewWriter(list)
	for _, l := range there {
		if slices.Contains(c.lost, l.Digest) {
			continue
		}
		sum.Count++
		sum.Bytes += l.Size
		if err := l.write(out); err != nil {
			return sum, nil, err
		}
	}
	slices.Sort(c.lost)
	sum.Missing = int64(len(c.lost))
	return sum, c.lost, out.Flush()
}

// copyLayer copies one, and hashes it on the way: what does not have its digest does not arrive, and is not whole.
func copyLayer(ctx context.Context, t Target, from datadir.LayerReader, d digest.Digest, m *meter) (whole bool, err error) {
	r, info, err := from.Open(ctx, d)
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	v := &verifier{r: m.from(r), v: d.Verifier(), d: d, left: info.Size}
	err = t.Put(ctx, layerName(d), v, info.Size)
	if v.wrong {
		return false, nil
	}
	return err == nil, err
}

// verifier reads what must have a digest: the wrong bytes end with an error in place of the last of them.
type verifier struct {
	r     io.Reader
	v     digest.Verifier
	d     digest.Digest
	left  int64
	wrong bool
}

func (v *verifier) Read(b []byte) (int, error) {
	if v.left == 0 {
		return 0, v.end()
	}
	n, err := v.r.Read(b[:min(int64(len(b)), v.left)])
	_, _ = v.v.Write(b[:n])
	v.left -= int64(n)
	switch {
	case v.left == 0:
		if err := v.end(); !errors.Is(err, io.EOF) {
			return 0, err
		}
		err = nil
	case errors.Is(err, io.EOF): // too short
		err = v.end()
	}
	return n, err
}

func (v *verifier) end() error {
	if v.left == 0 && v.v.Verified() {
		return io.EOF
	}
	v.wrong = true
	return fmt.Errorf("layer %s: %w", v.d, storage.ErrDigestMismatch)
}

// copier runs a few copies at a time. The first error ends the others.
type copier struct {
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan struct{}
	wg     sync.WaitGroup

	mu   sync.Mutex
	err  error
	lost []digest.Digest
}

func newCopier(ctx context.Context) *copier {
	c := &copier{slots: make(chan struct{}, atOnce)}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// run waits for a free place, then runs f beside the caller.
func (c *copier) run(f func(context.Context) error) {
	c.slots <- struct{}{}
	c.wg.Go(func() {
		defer func() { <-c.slots }()
		err := c.ctx.Err()
		if err == nil {
			err = f(c.ctx)
		}
		if err != nil {
			c.fail(err)
		}
	})
}

func (c *copier) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	c.cancel()
}

func (c *copier) lose(d digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = append(c.lost, d)
}

// wait returns the first error.
func (c *copier) wait() error {
	c.wg.Wait()
	c.cancel()
	return c.err
}
