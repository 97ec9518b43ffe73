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
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atcr-dev/atcr/hold/internal/ledger"
	"github.com/atcr-dev/atcr/internal/blobhttp"
	"github.com/atcr-dev/atcr/storage"
)

const (
	linkLife   = 15 * time.Minute
	statAtOnce = 16
)

// blobs are the layers as readers get them: from the storage's own address, by a link of ours, or here.
type blobs struct {
	store      storage.Store
	publicURL  string
	noRedirect bool
	linkKey    []byte
	clock      func() time.Time
	reads      prometheus.Counter
}

// present returns which of the digests are here, in the order asked.
func (b *blobs) present(ctx context.Context, digests []digest.Digest) ([]ledger.Blob, error) {
	found := make([]*ledger.Blob, len(digests))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(statAtOnce, len(digests)) {
		wg.Go(func() {
			for i := range next {
				info, err := b.store.Stat(ctx, digests[i])
				switch {
				case err == nil:
					found[i] = &ledger.Blob{Digest: digests[i], Size: info.Size}
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
	out := []ledger.Blob{}
	for _, f := range found {
		if f != nil {
			out = append(out, *f)
		}
	}
	return out, context.Cause(ctx)
}

// link is an address under which anyone gets the blob for a quarter of an hour.
func (b *blobs) link(d digest.Digest) string {
	expiry := b.clock().Add(linkLife).Unix()
	return b.publicURL + "/blobs/" + d.String() + "?t=" + strconv.FormatInt(expiry, 10) + "." + b.linkMAC(d, expiry)
}

func (b *blobs) linkMAC(d digest.Digest, expiry int64) string {
	mac := hmac.New(sha256.New, b.linkKey)
	fmt.Fprintf(mac, "GET\n%s\n%d", d, expiry)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (b *blobs) linkHolds(d digest.Digest, t string) bool {
	at, sum, ok := strings.Cut(t, ".")
	expiry, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || at != strconv.FormatInt(expiry, 10) || !hmac.Equal([]byte(sum), []byte(b.linkMAC(d, expiry))) {
		return false
	}
	return b.clock().Unix() <= expiry
}

// serve writes the bytes of a layer.
func (b *blobs) serve(w http.ResponseWriter, r *http.Request, d digest.Digest) error {
	info, err := b.store.Stat(r.Context(), d)
	if err != nil {
		return err
	}
	b.reads.Inc()
	return blobhttp.Serve(w, r, blobhttp.Content{
		Digest: d, Size: info.Size, ModTime: info.ModTime,
		Open: func(ctx context.Context, _, _ int64) (io.ReadCloser, error) {
			f, _, err := b.store.Open(ctx, d)
			return f, err
		},
	})
}

// send returns a GET of a layer with the address it is to be got from, or with the bytes.
func (b *blobs) send(w http.ResponseWriter, r *http.Request, d digest.Digest) error {
	if r.Method == http.MethodHead || b.noRedirect {
		return b.serve(w, r, d)
	}
	to, err := b.store.Link(r.Context(), d, linkLife)
	if errors.Is(err, storage.ErrNoLink) {
		if _, err := b.store.Stat(r.Context(), d); err != nil {
			return err
		}
		to, err = b.link(d), nil
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

// serveLinked is /blobs/<digest>?t=…: the link is the right, no token is looked at.
func (s *Server) serveLinked(w http.ResponseWriter, r *http.Request) {
	d := digest.Digest(r.PathValue("digest"))
	err := storage.CheckDigest(d)
	if err == nil && !s.blobs.linkHolds(d, r.URL.Query().Get("t")) {
		err = forbidden("the link has expired or is not for this blob; ask getBlob again")
	}
	if err == nil {
		if s.people.record().Public { // where getBlob sends a page
			w.Header().Set("Access-Control-Allow-Origin", "*")
		}
		w.Header().Set("Cache-Control", "private, max-age=900")
		err = s.blobs.serve(w, r, d)
	}
	if err != nil {
		s.answerError(w, r, err)
	}
}
