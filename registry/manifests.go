package registry

import (
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/blobhttp"
	"github.com/atcr-dev/atcr/internal/oci"
	"github.com/atcr-dev/atcr/internal/pace"
)

// maxTags is how many tags one push may set. The specification wants 10 or more.
const maxTags = 100

// manifestHead is the header of a manifest's answers, made once. The slices are shared: nothing is appended to them.
type manifestHead struct {
	etag                           string
	etags, digests, types, lengths []string
}

// Prepared returns the same manifest with its header made ready: for backends that keep manifests in memory to give them
// out many times. It saves some allocations for each answer, nothing else.
func (m Manifest) Prepared() Manifest {
	if m.head == nil {
		etag := blobhttp.ETag(m.Digest.String())
		m.head = &manifestHead{
			etag: etag, etags: []string{etag}, digests: []string{m.Digest.String()},
			types: []string{m.MediaType}, lengths: []string{strconv.Itoa(len(m.Bytes))},
		}
	}
	return m
}

func (h *Handler) getManifest(w http.ResponseWriter, r *http.Request, req request, repo Repository) error {
	m, err := repo.Manifest(r.Context(), req.ref)
	if err != nil {
		return err
	}
	if m.Digest == "" && m.MediaType == "" {
		return nilResult("Repository.Manifest (no Digest, no MediaType)")
	}
	if err := oci.CheckMediaType(m.MediaType); err != nil {
		return ErrManifestUnknown.With("the manifest has a media type that is not served").Wrap(err)
	}
	head := m.Prepared().head
	if err := blobhttp.CheckIfMatch(r, head.etag); err != nil {
		return err
	}
	header := w.Header()
	header["Etag"] = head.etags
	header["Docker-Content-Digest"] = head.digests
	setWarning(header, m.Warning)
	if blobhttp.NotModified(r, head.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	header["Content-Type"] = head.types
	header["Content-Length"] = head.lengths
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		if len(m.Bytes) > 64<<10 { // a smaller one fits the connection's buffers
			defer pace.Answer(w, int64(len(m.Bytes)))()
		}
		_, _ = w.Write(m.Bytes) // a client that has gone is told nothing
		if m.Pulled != nil {
			m.Pulled()
		}
	}
	return nil
}

func (h *Handler) putManifest(w http.ResponseWriter, r *http.Request, req request, repo Repository) error {
	if len(req.tags) > maxTags {
		return errTooManyTags.With("%d tags in one push, at most %d are taken", len(req.tags), maxTags)
	}
	body, err := h.readManifest(w, r)
	if err != nil {
		return err
	}
	m, err := ParseManifest(r.Header.Get("Content-Type"), body, req.ref.Digest)
	if err != nil {
		return err
	}
	// What any server on the way refuses is refused before anything is written.
	parsed := oci.Manifest(m)
	if err := parsed.CheckDigests(); err != nil {
		return ErrManifestInvalid.With("%v", err)
	}
	m.Sparse = h.opts.SparseIndexes
	if d, one, other, found := parsed.TwoSizes(); found {
		return ErrManifestInvalid.With("it names %s with %d and with %d bytes", d, one, other).WithDetail(map[string]any{"digest": d})
	}
	if err := checkConditions(r, req.ref, repo); err != nil {
		return err
	}
	if err := repo.PutManifest(r.Context(), m, req.tags); err != nil {
		return err
	}
	header := w.Header()
	header["Location"] = []string{"/v2/" + escapeName(req.asked) + "/manifests/" + m.Digest.String()}
	header["Docker-Content-Digest"] = []string{m.Digest.String()}
	if m.Subject != nil {
		header["Oci-Subject"] = []string{m.Subject.Digest.String()}
	}
	if req.ref.Tag == "" {
		header["Oci-Tag"] = req.tags
	}
	return empty(w, http.StatusCreated)
}

func (h *Handler) readManifest(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	limit := h.opts.MaxManifestBytes
	if r.ContentLength > limit {
		return nil, ErrManifestTooLarge.With("the manifest has %d bytes, the limit is %d", r.ContentLength, limit)
	}
	pace.Body(w, r, h.opts.BodyGrace, h.opts.BodyRate)
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, bodyError(err)
	}
	if int64(len(body)) > limit {
		return nil, ErrManifestTooLarge.With("the manifest has more than %d bytes", limit)
	}
	return body, nil
}

// checkConditions serves If-Match and If-None-Match of a push. The manifest is read for it, and not locked: two pushes at the
// same moment may both find their condition true.
func checkConditions(r *http.Request, ref Ref, repo Repository) error {
	if r.Header.Get("If-Match") == "" && r.Header.Get("If-None-Match") == "" {
		return nil
	}
	var etag string
	m, err := repo.Manifest(r.Context(), ref)
	switch {
	case err == nil:
		etag = blobhttp.ETag(m.Digest.String())
	case errors.Is(err, ErrManifestUnknown), errors.Is(err, ErrNameUnknown):
	default:
		return err
	}
	if err := blobhttp.CheckIfMatch(r, etag); err != nil {
		return err
	}
	if etag != "" && blobhttp.NotModified(r, etag) {
		return ErrPrecondition
	}
	return nil
}

func (h *Handler) deleteManifest(w http.ResponseWriter, r *http.Request, req request, repo Repository) error {
	if err := checkConditions(r, req.ref, repo); err != nil {
		return err
	}
	if req.ref.Tag != "" {
		if err := repo.DeleteTag(r.Context(), req.ref.Tag); err != nil {
			return err
		}
		return empty(w, http.StatusAccepted)
	}
	parents, err := repo.Parents(r.Context(), req.ref.Digest)
	if err != nil && !errors.Is(err, ErrUnsupported) {
		h.opts.Log.DebugContext(r.Context(), "registry: indexes of a deleted manifest are not known", "repository", req.repo, "err", err)
	}
	if err := repo.DeleteManifest(r.Context(), req.ref.Digest); err != nil {
		return err
	}
	setWarning(w.Header(), missingChild(req.ref.Digest, parents))
	return empty(w, http.StatusAccepted)
}

// missingChild is the warning that indexes lack a manifest now; empty when there are none.
func missingChild(child digest.Digest, parents []Parent) string {
	if len(parents) == 0 {
		return ""
	}
	text := "the manifest " + child.String() + " was deleted, and is missing now from"
	for i, p := range parents[:min(len(parents), maxParents)] {
		if i > 0 {
			text += ","
		}
		text += " the index " + p.Digest.String() + " (tag " + p.Tag + ")"
	}
	if len(parents) > maxParents {
		text += " and others"
	}
	return text
}

// maxParents is how many indexes a warning names.
const maxParents = 5

// descriptorDigest is the digest a backend answered, or the one that was asked for where it answered none.
func descriptorDigest(got, asked digest.Digest) string {
	if got == "" {
		return asked.String()
	}
	return got.String()
}
