package storagetest

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// bytesOf gives n random bytes.
func (e *env) bytesOf(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; {
		v := e.rand.Uint64()
		for range 8 {
			if i < n {
				b[i] = byte(v)
				v >>= 8
				i++
			}
		}
	}
	return b
}

// create begins an upload.
func (e *env) create(h storage.Hint) storage.Upload {
	up, err := e.s.Create(e.ctx, h)
	e.must("create", err)
	return up
}

// resume opens an upload.
func (e *env) resume(id string) storage.Upload {
	up, err := e.s.Resume(e.ctx, id)
	e.must("resume", err)
	return up
}

// write appends all of b.
func (e *env) write(up storage.Upload, b []byte) {
	before := up.Size()
	n, err := up.ReadFrom(bytes.NewReader(b))
	e.must("write", err)
	if n != int64(len(b)) || up.Size() != before+n {
		e.fatalf("write of %d bytes at %d returned %d, Size is %d", len(b), before, n, up.Size())
	}
}

// commit ends an upload whose bytes are b.
func (e *env) commit(up storage.Upload, d digest.Digest, b []byte) {
	info, err := up.Commit(e.ctx, d)
	e.must("commit", err)
	if info.Digest != d || info.Size != int64(len(b)) {
		e.errorf("commit returned %s of %d bytes, want %s of %d", info.Digest, info.Size, d, len(b))
	}
	if err := up.Close(); err != nil {
		e.errorf("close after commit: %w", err)
	}
}

// put stores b under its sha256.
func (e *env) put(b []byte) digest.Digest {
	d := digest.FromBytes(b)
	up := e.create(storage.Hint{Digest: d, Size: int64(len(b))})
	e.write(up, b)
	e.commit(up, d, b)
	return d
}

// holds checks that the blob is there with these bytes.
func (e *env) holds(d digest.Digest, b []byte) {
	info, err := e.s.Stat(e.ctx, d)
	if err != nil {
		e.errorf("stat %s: %w", d, err)
		return
	}
	r, oinfo, err := e.s.Open(e.ctx, d)
	if err != nil {
		e.errorf("open %s: %w", d, err)
		return
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		e.errorf("read %s: %w", d, err)
	}
	if !bytes.Equal(got, b) {
		e.errorf("%s: read %d bytes that differ from the %d written", d, len(got), len(b))
	}
	if info != oinfo || info.Digest != d || info.Size != int64(len(b)) || info.ModTime.IsZero() {
		e.errorf("%s of %d bytes: Stat says %+v, Open says %+v", d, len(b), info, oinfo)
	}
}

// lacks checks that the blob isn't there.
func (e *env) lacks(d digest.Digest) {
	_, err := e.s.Stat(e.ctx, d)
	e.want("stat of a blob that isn't there", err, storage.ErrNotFound)
	r, _, err := e.s.Open(e.ctx, d)
	e.want("open of a blob that isn't there", err, storage.ErrNotFound)
	if err == nil {
		r.Close()
	}
}

// walk lists the digests after one.
func (e *env) walk(after digest.Digest) []digest.Digest {
	var ds []digest.Digest
	for info, err := range e.s.Walk(e.ctx, after) {
		e.must("walk", err)
		ds = append(ds, info.Digest)
	}
	return ds
}

// uploads lists the ids after one.
func (e *env) uploads(after string) []string {
	var ids []string
	for info, err := range e.s.Uploads(e.ctx, after) {
		e.must("list uploads", err)
		ids = append(ids, info.ID)
	}
	return ids
}

func (e *env) wantList(what string, got, want []string) {
	if !slices.Equal(got, want) {
		e.errorf("%s: got %q, want %q", what, got, want)
	}
}

// crash has the driver forget what isn't durable.
func (e *env) crash() {
	s, err := e.cfg.Crash(e.s)
	e.must("open after a crash", err)
	e.s = s
}

// errReader gives b and then an error.
type errReader struct {
	b   []byte
	err error
}

var errReading = errors.New("the client went away")

func (r *errReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, r.err
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

func strs[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}
