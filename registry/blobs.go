package registry

import (
	"context"
	"io"
	"net/http"

	"github.com/atcr-dev/atcr/internal/blobhttp"
)

func (h *Handler) getBlob(w http.ResponseWriter, r *http.Request, req request, repo Repository) error {
	b, err := repo.Blob(r.Context(), req.digest)
	if err != nil {
		return err
	}
	// A HEAD is answered here: links are signed for GET alone.
	if b.Link != "" && r.Method == http.MethodGet {
		header := w.Header()
		header["Location"] = []string{b.Link}
		header["Cache-Control"] = privateNoStore
		header["Docker-Content-Digest"] = []string{descriptorDigest(b.Digest, req.digest)}
		return empty(w, http.StatusTemporaryRedirect)
	}
	if b.Open == nil && b.Link == "" {
		return nilResult("Repository.Blob (neither Link nor Open)")
	}
	return blobhttp.Serve(w, r, blobhttp.Content{
		Digest: b.Digest, Size: b.Size, ModTime: b.ModTime,
		Open: func(ctx context.Context, start, end int64) (io.ReadCloser, error) {
			body, err := b.Open(ctx, Range{Start: start, End: end})
			if err == nil && body == nil {
				err = nilResult("Blob.Open")
			}
			return body, err
		},
	})
}

var privateNoStore = []string{"private, no-store"}

func (h *Handler) deleteBlob(w http.ResponseWriter, r *http.Request, req request, repo Repository) error {
	if err := repo.DeleteBlob(r.Context(), req.digest); err != nil {
		return err
	}
	return empty(w, http.StatusAccepted)
}
