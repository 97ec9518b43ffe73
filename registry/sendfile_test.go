package registry_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
)

// readFromSpy sees what is handed to the server's writer: sendfile needs the bare file.
type readFromSpy struct {
	http.ResponseWriter
	file bool
}

func (s *readFromSpy) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		_, s.file = l.R.(*os.File)
	}
	return io.Copy(struct{ io.Writer }{s.ResponseWriter}, r)
}

func TestBlobsGoOutBySendfile(t *testing.T) {
	t.Parallel()
	h := newHost(t, registry.Options{})
	d := h.pushBlob("app", "layer")
	if d != digest.FromString("layer") {
		t.Fatal(d)
	}
	handler := registry.NewHandler(h.backend, nil)
	spy := &readFromSpy{ResponseWriter: httptest.NewRecorder()}
	handler.ServeHTTP(spy, httptest.NewRequest("GET", "/v2/app/blobs/"+d.String(), nil))
	if !spy.file {
		t.Error("the bare *os.File did not reach ReadFrom")
	}
}
