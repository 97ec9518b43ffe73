package hold

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/blobhttp"
	"github.com/atcr-dev/atcr/storage"
)

const (
	linkLife   = 15 * time.Minute
	statAtOnce = 16
)

// present tells which of the digests are here, in the order asked.
func (s *Server) present(ctx context.Context, digests []digest.Digest) ([]blobSize, error) {
	found := make([]*blobSize, len(digests))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(statAtOnce, len(digests)) {
		wg.Go(func() {
			for i := range next {
				info, err := s.store.Stat(ctx, digests[i])
				switch {
				case err == nil:
					found[i] = &blobSize{digests[i], info.Size}
				case !errors.Is(err, storage.ErrNotFound):
					cancel(fmt.Errorf("stat %s: %w", digests[i], err))
				}
			}
		})
	}
	for i := range digests {
		next <- i
	}
	close(next)
	wg.Wait()
	out := []blobSize{}
	for _, b := range found {
		if b != nil {
			out = append(out, *b)
		}
	}
	return out, context.Cause(ctx)
}

// link is an address under which anyone gets the blob for a quarter of an hour.
func (s *Server) link(d digest.Digest) string {
	expiry := s.clock().Add(linkLife).Unix()
	return s.cfg.PublicURL + "/blobs/" + d.String() + "?t=" + strconv.FormatInt(expiry, 10) + "." + s.linkMAC(d, expiry)
}

func (s *Server) linkMAC(d digest.Digest, expiry int64) string {
	mac := hmac.New(sha256.New, s.linkKey)
	fmt.Fprintf(mac, "GET\n%s\n%d", d, expiry)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (s *Server) linkHolds(d digest.Digest, t string) bool {
	at, sum, ok := strings.Cut(t, ".")
	expiry, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || !hmac.Equal([]byte(sum), []byte(s.linkMAC(d, expiry))) {
		return false
	}
	return s.clock().Unix() <= expiry
}

// serveLinked is /blobs/<digest>?t=…: the link is the right, no token is looked at.
func (s *Server) serveLinked(w http.ResponseWriter, r *http.Request) {
	d := digest.Digest(r.PathValue("digest"))
	err := storage.CheckDigest(d)
	if err == nil && !s.linkHolds(d, r.URL.Query().Get("t")) {
		err = forbidden("the link has expired or is not for this blob; ask getBlob again")
	}
	if err == nil {
		w.Header().Set("Cache-Control", "private, max-age=900")
		err = s.serveLayer(w, r, d)
	}
	if err != nil {
		s.answerError(w, r, err)
	}
}

// serveLayer answers the bytes.
func (s *Server) serveLayer(w http.ResponseWriter, r *http.Request, d digest.Digest) error {
	info, err := s.store.Stat(r.Context(), d)
	if err != nil {
		return err
	}
	s.metrics.reads.Inc()
	return blobhttp.Serve(w, r, blobhttp.Content{
		Digest: d, Size: info.Size, ModTime: info.ModTime,
		Open: func(ctx context.Context, _, _ int64) (io.ReadCloser, error) {
			f, _, err := s.store.Open(ctx, d)
			return f, err
		},
	})
}

// sendToLayer answers a GET of a layer with the address it is to be got from, or with the bytes.
func (s *Server) sendToLayer(w http.ResponseWriter, r *http.Request, d digest.Digest) error {
	if r.Method == http.MethodHead || s.cfg.NoRedirect {
		return s.serveLayer(w, r, d)
	}
	to, err := s.store.Link(r.Context(), d, linkLife)
	if errors.Is(err, storage.ErrNoLink) {
		if _, err := s.store.Stat(r.Context(), d); err != nil {
			return err
		}
		to, err = s.link(d), nil
	}
	if err != nil {
		return fmt.Errorf("link to %s: %w", d, err)
	}
	h := w.Header()
	blobhttp.Harden(h)
	h.Set("Location", to)
	h.Set("Cache-Control", "private, no-store")
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusTemporaryRedirect)
	return nil
}
