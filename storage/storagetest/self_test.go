package storagetest_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/memstore"
	"github.com/atcr-dev/atcr/storage/storagetest"
	"github.com/opencontainers/go-digest"
)

func TestGoodStorePasses(t *testing.T) {
	if err := storagetest.Check(t.Context(), storagetest.Config{
		Open: func() (storage.Store, error) { return memstore.New(nil), nil }, Seed: 1,
	}); err != nil {
		t.Error(err)
	}
}

// bad is a store with one thing wrong.
type bad struct {
	storage.Store
	wrong string
}

func (b bad) Stat(ctx context.Context, d digest.Digest) (storage.Info, error) {
	info, err := b.Store.Stat(ctx, d)
	switch b.wrong {
	case "stat never fails":
		return info, nil
	case "stat gives the wrong size":
		info.Size++
	}
	return info, err
}

func (b bad) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, storage.Info, error) {
	r, info, err := b.Store.Open(ctx, d)
	if err == nil && b.wrong == "reads lose the last byte" {
		r = short{r, info.Size - 1}
	}
	if err != nil && b.wrong == "errors have no kind" {
		err = errors.New("no such thing")
	}
	return r, info, err
}

func (b bad) Delete(ctx context.Context, d digest.Digest) error {
	if b.wrong == "delete does nothing" {
		_, err := b.Store.Stat(ctx, d)
		return err
	}
	return b.Store.Delete(ctx, d)
}

func (b bad) Walk(ctx context.Context, after digest.Digest) iter.Seq2[storage.Info, error] {
	if b.wrong == "walk ignores start-after" {
		after = ""
	}
	if b.wrong == "walk panics" {
		panic("walk")
	}
	return b.Store.Walk(ctx, after)
}

func (b bad) Create(ctx context.Context, h storage.Hint) (storage.Upload, error) {
	up, err := b.Store.Create(ctx, h)
	if err != nil {
		return nil, err
	}
	return badUpload{up, b, h}, nil
}

func (b bad) Resume(ctx context.Context, id string) (storage.Upload, error) {
	up, err := b.Store.Resume(ctx, id)
	if err != nil {
		return nil, err
	}
	return badUpload{up, b, storage.Hint{}}, nil
}

type badUpload struct {
	storage.Upload
	b bad
	h storage.Hint
}

func (u badUpload) Commit(ctx context.Context, d digest.Digest) (storage.Info, error) {
	info, err := u.Upload.Commit(ctx, d)
	switch {
	case u.b.wrong == "commit trusts the client" && errors.Is(err, storage.ErrDigestMismatch):
		return storage.Info{Digest: d, Size: u.Size()}, nil
	case u.b.wrong == "a mismatch drops the upload" && errors.Is(err, storage.ErrDigestMismatch):
		u.Cancel(ctx)
	}
	return info, err
}

func (u badUpload) ReadFrom(r io.Reader) (int64, error) {
	n, err := u.Upload.ReadFrom(r)
	if u.b.wrong == "a failing reader is success" {
		err = nil
	}
	return n, err
}

func (u badUpload) Close() error {
	if u.b.wrong == "close keeps the upload busy" {
		return nil
	}
	return u.Upload.Close()
}

func (u badUpload) PartLink(ctx context.Context, n int, size int64) (*http.Request, error) {
	if u.b.wrong == "part link of nothing" {
		return nil, nil
	}
	return u.Upload.PartLink(ctx, n, size)
}

type short struct {
	io.ReadSeekCloser
	size int64
}

func (s short) Read(p []byte) (int, error) {
	at, err := s.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if at >= s.size {
		return 0, io.EOF
	}
	return s.ReadSeekCloser.Read(p[:min(int64(len(p)), s.size-at)])
}

// TestBadStoresFail tests the tests: each of these mistakes must be found, by a case that says so.
func TestBadStoresFail(t *testing.T) {
	for wrong, by := range map[string]string{
		"stat never fails":            "NotFound",
		"stat gives the wrong size":   "Sizes",
		"reads lose the last byte":    "Sizes",
		"errors have no kind":         "NotFound",
		"delete does nothing":         "Delete",
		"walk ignores start-after":    "Walk",
		"walk panics":                 "Walk",
		"commit trusts the client":    "Mismatch",
		"a mismatch drops the upload": "Mismatch",
		"a failing reader is success": "FailingReader",
		"close keeps the upload busy": "Resume",
		"part link of nothing":        "Link",
	} {
		t.Run(wrong, func(t *testing.T) {
			err := storagetest.Check(t.Context(), storagetest.Config{
				Open: func() (storage.Store, error) { return bad{memstore.New(nil), wrong}, nil }, Only: []string{by}, Seed: 1,
			})
			if err == nil || !strings.HasPrefix(err.Error(), by) {
				t.Errorf("the case %s finds %v", by, err)
			}
		})
	}
}

// TestLeftoversAndClose: what is left behind and what Close says is reported.
func TestLeftoversAndClose(t *testing.T) {
	err := storagetest.Check(t.Context(), storagetest.Config{
		Open:      func() (storage.Store, error) { return memstore.New(nil), nil },
		Close:     func(storage.Store) error { return errors.New("does not close") },
		Leftovers: func(storage.Store) ([]string, error) { return []string{"debris"}, nil },
		Only:      []string{"Empty"},
	})
	if err == nil || !strings.Contains(err.Error(), "left behind: debris") || !strings.Contains(err.Error(), "does not close") {
		t.Errorf("found %v", err)
	}
}

func ExampleCheck() {
	err := storagetest.Check(context.Background(), storagetest.Config{
		Open: func() (storage.Store, error) { return memstore.New(&memstore.Options{Clock: time.Now}), nil },
	})
	if err != nil {
		panic(err)
	}
	// Output:
}
