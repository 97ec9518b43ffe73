package storagetest_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
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
		Open: func() (storage.Store, error) { return memstore.New(), nil }, Seed: 1,
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
	if b.wrong == "walk looks at its context once" && ctx.Err() == nil {
		ctx = context.WithoutCancel(ctx)
	}
	if b.wrong == "walk panics" {
		panic("walk")
	}
	return b.Store.Walk(ctx, after)
}

func (b bad) Create(ctx context.Context, h storage.Hint) (storage.Upload, error) {
	if b.wrong == "create ignores its context" {
		ctx = context.WithoutCancel(ctx)
	}
	up, err := b.Store.Create(ctx, h)
	if err != nil {
		return nil, err
	}
	return badUpload{up, b, h}, nil
}

func (b bad) Resume(ctx context.Context, id string) (storage.Upload, error) {
	if b.wrong == "resume ignores its context" {
		ctx = context.WithoutCancel(ctx)
	}
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
	if u.b.wrong == "commit ignores its context" {
		ctx = context.WithoutCancel(ctx)
	}
	info, err := u.Upload.Commit(ctx, d)
	switch {
	case u.b.wrong == "commit trusts the client" && errors.Is(err, storage.ErrDigestMismatch):
		return storage.Info{Digest: d, Size: u.Size()}, nil
	case u.b.wrong == "a mismatch drops the upload" && errors.Is(err, storage.ErrDigestMismatch):
		u.Cancel(ctx)
	}
	return info, err
}

func (u badUpload) Flush(ctx context.Context) error {
	if u.b.wrong == "flush ignores its context" {
		ctx = context.WithoutCancel(ctx)
	}
	return u.Upload.Flush(ctx)
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

		"create ignores its context":     "Cancelled",
		"resume ignores its context":     "Cancelled",
		"flush ignores its context":      "Cancelled",
		"commit ignores its context":     "Cancelled",
		"walk looks at its context once": "Walk",
	} {
		t.Run(wrong, func(t *testing.T) {
			err := storagetest.Check(t.Context(), storagetest.Config{
				Open: func() (storage.Store, error) { return bad{memstore.New(), wrong}, nil }, Only: []string{by}, Seed: 1,
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
		Open:      func() (storage.Store, error) { return memstore.New(), nil },
		Close:     func(storage.Store) error { return errors.New("does not close") },
		Leftovers: func(storage.Store) ([]string, error) { return []string{"debris"}, nil },
		Only:      []string{"Empty"},
	})
	if err == nil || !strings.Contains(err.Error(), "left behind: debris") || !strings.Contains(err.Error(), "does not close") {
		t.Errorf("found %v", err)
	}
}

// TestNoOpen: what is required is missed by name, and an Open of nothing is told.
func TestNoOpen(t *testing.T) {
	for name, f := range map[string]func(storagetest.Config){
		"Run":   func(cfg storagetest.Config) { storagetest.Run(t, cfg) },
		"Check": func(cfg storagetest.Config) { _ = storagetest.Check(t.Context(), cfg) },
	} {
		func() {
			defer func() {
				if got, _ := recover().(string); !strings.HasPrefix(got, "storagetest: Config.Open is nil") {
					t.Errorf("%s panics with %q", name, got)
				}
			}()
			f(storagetest.Config{})
		}()
	}
	err := storagetest.Check(t.Context(), storagetest.Config{Open: func() (storage.Store, error) { return nil, nil }, Only: []string{"Empty"}})
	if err == nil || !strings.Contains(err.Error(), "neither a store nor an error") {
		t.Errorf("Open of nothing: %v", err)
	}
}

// TestSilent: injected faults are not logged between the lines of what fails.
func TestSilent(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	var log strings.Builder
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	err := storagetest.Check(t.Context(), storagetest.Config{
		Open: func() (storage.Store, error) { return memstore.New(), nil }, Only: []string{"Faults/Retry"},
	})
	if err != nil || log.Len() > 0 {
		t.Errorf("%v; logged: %.500s", err, log.String())
	}
}

func ExampleCheck() {
	err := storagetest.Check(context.Background(), storagetest.Config{
		Open: func() (storage.Store, error) { return memstore.NewWith(&memstore.Options{Clock: time.Now}), nil },
	})
	if err != nil {
		panic(err)
	}
	// Output:
}
