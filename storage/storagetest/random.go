package storagetest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// model is what the store ought to hold.
type model struct {
	*env
	blobs   map[digest.Digest][]byte
	uploads map[string]*modelUpload
}

type modelUpload struct {
	data  []byte
	least int            // a crash takes it back no further
	up    storage.Upload // nil when closed
	alg   digest.Algorithm
}

func testRandom(e *env)      { randomWalk(e, false) }
func testRandomCrash(e *env) { randomWalk(e, true) }

// randomWalk does what comes to mind and compares with the model.
func randomWalk(e *env, crashes bool) {
	m := &model{env: e, blobs: map[digest.Digest][]byte{}, uploads: map[string]*modelUpload{}}
	steps := []func(){m.create, m.write, m.write, m.close, m.resume, m.resume, m.flush, m.commit, m.commit, m.mismatch, m.cancel, m.delete}
	for i := range 400 {
		steps[e.rand.IntN(len(steps))]()
		if crashes && e.rand.IntN(25) == 0 {
			m.crash()
		}
		if i%50 == 49 {
			m.compare()
		}
		if len(e.errs) > 0 {
			e.fatalf("after step %d", i)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.uploads)) {
		if u := m.uploads[id]; u.up != nil {
			e.must("close", u.up.Close())
		}
	}
	m.compare()
}

// pick chooses an upload that is open, or closed.
func (m *model) pick(open bool) (string, *modelUpload) {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(m.uploads)) {
		if (m.uploads[id].up != nil) == open {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return "", nil
	}
	id := ids[m.rand.IntN(len(ids))]
	return id, m.uploads[id]
}

func (m *model) create() {
	alg := []digest.Algorithm{digest.SHA256, digest.SHA512}[m.rand.IntN(2)]
	var h storage.Hint
	if m.rand.IntN(2) == 0 {
		h.Digest = alg.FromString(fmt.Sprint(m.rand.Int()))
	}
	up := m.env.create(h)
	m.uploads[up.ID()] = &modelUpload{up: up, alg: alg}
}

func (m *model) write() {
	_, u := m.pick(true)
	if u == nil {
		return
	}
	// Few different contents, so that digests meet again.
	b := []byte(fmt.Sprint(m.rand.IntN(3)))
	if m.rand.IntN(4) == 0 {
		b = m.bytesOf(m.rand.IntN(1 << (1 + m.rand.IntN(21))))
	}
	m.env.write(u.up, b)
	u.data = append(u.data, b...)
}

func (m *model) close() {
	_, u := m.pick(true)
	if u == nil {
		return
	}
	m.must("close", u.up.Close())
	u.up = nil
	if len(u.data) >= 1<<20 {
		u.least = len(u.data)
	}
}

func (m *model) resume() {
	id, u := m.pick(false)
	if u == nil {
		return
	}
	u.up = m.env.resume(id)
	if u.up.Size() != int64(len(u.data)) {
		m.fatalf("upload %s resumed at %d, want %d", id, u.up.Size(), len(u.data))
	}
}

func (m *model) flush() {
	_, u := m.pick(true)
	if u == nil {
		return
	}
	m.must("flush", u.up.Flush(m.ctx))
	u.least = len(u.data)
}

func (m *model) commit() {
	id, u := m.pick(true)
	if u == nil {
		return
	}
	d := u.alg.FromBytes(u.data)
	m.env.commit(u.up, d, u.data)
	m.blobs[d] = u.data
	delete(m.uploads, id)
}

func (m *model) mismatch() {
	_, u := m.pick(true)
	if u == nil {
		return
	}
	_, err := u.up.Commit(m.ctx, u.alg.FromString("nobody writes this"))
	m.want("commit of other bytes", err, storage.ErrDigestMismatch)
}

func (m *model) cancel() {
	id, u := m.pick(true)
	if u == nil || m.rand.IntN(2) == 0 {
		return
	}
	m.must("cancel", u.up.Cancel(m.ctx))
	delete(m.uploads, id)
}

func (m *model) delete() {
	ds := slices.Sorted(maps.Keys(m.blobs))
	if len(ds) == 0 {
		return
	}
	d := ds[m.rand.IntN(len(ds))]
	m.must("delete", m.s.Delete(m.ctx, d))
	delete(m.blobs, d)
}

// crash takes every upload back to somewhere between what was promised and what was written.
func (m *model) crash() {
	m.env.crash()
	for _, id := range slices.Sorted(maps.Keys(m.uploads)) {
		u := m.uploads[id]
		u.up = m.resumeBetween(id, u.least, len(u.data))
		u.data = u.data[:u.up.Size():u.up.Size()]
		u.least = min(u.least, len(u.data))
	}
	m.compare()
}

func (m *model) compare() {
	want := slices.Sorted(maps.Keys(m.blobs))
	m.wantList("walk", strs(m.walk("")), strs(want))
	for d, b := range m.blobs {
		m.holds(d, b)
	}
	m.wantList("uploads", m.env.uploads(""), slices.Sorted(maps.Keys(m.uploads)))
}
