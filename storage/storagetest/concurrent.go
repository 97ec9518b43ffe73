package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

// store puts b from any goroutine.
func (e *env) store(b []byte) error {
	d := digest.FromBytes(b)
	up, err := e.s.Create(e.ctx, storage.Hint{Digest: d, Size: int64(len(b))})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	defer up.Close()
	if _, err := up.ReadFrom(bytes.NewReader(b)); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if _, err := up.Commit(e.ctx, d); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// read reads a blob from any goroutine and checks it.
func (e *env) read(b []byte) error {
	r, _, err := e.s.Open(e.ctx, digest.FromBytes(b))
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(got, b) {
		err = errors.New("other bytes came back")
	}
	return err
}

// each runs n goroutines and writes down their errors.
func (e *env) each(n int, run func(i int) error) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := run(i); err != nil {
				e.errorf("goroutine %d: %w", i, err)
			}
		})
	}
	wg.Wait()
}

func testConcurrent(e *env) {
	const n = 24
	blobs := make([][]byte, n)
	for i := range blobs {
		blobs[i] = e.bytesOf(1000 + i*i*i*20)
	}
	e.each(n, func(i int) error {
		if err := e.store(blobs[i]); err != nil {
			return err
		}
		for range e.s.Walk(e.ctx, "") {
		}
		if i%3 == 0 {
			return e.s.Delete(e.ctx, digest.FromBytes(blobs[i]))
		}
		return e.read(blobs[i])
	})
	for i, b := range blobs {
		if i%3 == 0 {
			e.lacks(digest.FromBytes(b))
		} else {
			e.holds(digest.FromBytes(b), b)
		}
	}
}

func testConcurrentSame(e *env) {
	const n = 64
	b := e.bytesOf(150_000)
	d := digest.FromBytes(b)
	e.each(n, func(int) error { return e.store(b) })
	e.holds(d, b)
	if ds := e.walk(""); len(ds) != 1 {
		e.errorf("%d blobs after the same one was stored %d times", len(ds), n)
	}
	// Deletes among the commits: each one's answer is right, and a blob that is seen is whole.
	e.each(n, func(i int) error {
		if i%2 == 0 {
			return e.store(b)
		}
		if err := e.s.Delete(e.ctx, d); err != nil && !errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("delete: %w", err)
		}
		if err := e.read(b); err != nil && !errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("read: %w", err)
		}
		return nil
	})
	e.put(b)
	e.holds(d, b)
	// One upload, many who want it: one wins each time.
	up := e.create(storage.Hint{})
	e.must("close", up.Close())
	var mu sync.Mutex
	var data []byte
	e.each(16, func(i int) error {
		for {
			got, err := e.s.Resume(e.ctx, up.ID())
			if errors.Is(err, storage.ErrUploadBusy) {
				continue
			}
			if err != nil {
				return err
			}
			p := bytes.Repeat([]byte{byte(i)}, 1000)
			mu.Lock()
			data = append(data, p...)
			mu.Unlock()
			_, err = got.Write(p)
			return errors.Join(err, got.Close())
		}
	})
	up = e.resume(up.ID())
	e.commit(up, digest.FromBytes(data), data)
}
