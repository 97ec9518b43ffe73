package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/blobhttp"
	"github.com/atcr-dev/atcr/internal/pace"
)

// startUpload returns POST: a mount, an upload in one request, or the begin of one.
func (h *Handler) startUpload(w http.ResponseWriter, r *http.Request, req request, repo Repository) error {
	if req.mount != "" {
		mounted, err := h.mount(w, r, req, repo)
		if mounted || err != nil {
			return err
		}
	}
	hint := UploadHint{Algorithm: req.algorithm}
	whole := false // the blob is in the body; without one the upload begins here, unless the blob is the empty one
	if req.digest != "" {
		hint.Algorithm = req.digest.Algorithm()
		if whole = r.ContentLength != 0 || req.digest == hint.Algorithm.FromBytes(nil); whole {
			hint.Digest, hint.Size = req.digest, max(r.ContentLength, 0)
		}
	}
	up, err := repo.StartUpload(r.Context(), hint)
	if err != nil {
		return err
	}
	if up == nil {
		return nilResult("Repository.StartUpload")
	}
	defer up.Close()
	if whole && up.Link() == "" {
		return h.monolithic(w, r, req, up)
	}
	if err := up.Close(); err != nil {
		return err
	}
	return accepted(w, req, up, http.StatusAccepted)
}

// mount returns 201 when the blob could be had from elsewhere. What can't be mounted is uploaded: whether it exists where the
// client may not read must not show.
func (h *Handler) mount(w http.ResponseWriter, r *http.Request, req request, repo Repository) (bool, error) {
	if req.from != "" && req.from != req.repo {
		if _, err := h.opts.Authorizer.Authorize(r, []Access{{Repository: req.from, Actions: []Action{Pull}}}); err != nil {
			return false, nil
		}
	}
	d, err := repo.Mount(r.Context(), req.mount, req.from)
	switch {
	case err == nil:
		return true, created(w, req, digest.Digest(descriptorDigest(d.Digest, req.mount)))
	case errors.Is(err, ErrBlobUnknown), errors.Is(err, ErrNameUnknown), errors.Is(err, ErrUnsupported),
		errors.Is(err, ErrDenied), errors.Is(err, ErrUnauthorized):
		return false, nil
	}
	return false, err
}

// monolithic takes a whole blob in the body of a POST. One that fails is thrown away: the client does not know its id.
func (h *Handler) monolithic(w http.ResponseWriter, r *http.Request, req request, up Upload) error {
	err := h.append(w, r, up)
	if err == nil {
		_, err = up.Commit(r.Context(), req.digest)
	}
	if err != nil {
		if cerr := up.Cancel(r.Context()); cerr != nil {
			err = errors.Join(err, cerr)
		}
		return err
	}
	return created(w, req, req.digest)
}

func (h *Handler) append(w http.ResponseWriter, r *http.Request, up Upload) error {
	pace.Body(w, r, h.opts.BodyGrace, h.opts.BodyRate)
	return blobhttp.Append(r, up, h.opts.MaxBlobBytes)
}

func (h *Handler) uploadStatus(w http.ResponseWriter, r *http.Request, req request, repo Repository) error {
	up, err := openUpload(r.Context(), repo, req.upload)
	if err != nil {
		return err
	}
	if err := up.Close(); err != nil {
		return err
	}
	return accepted(w, req, up, http.StatusNoContent)
}

func (h *Handler) patchUpload(w http.ResponseWriter, r *http.Request, req request, repo Repository) error {
	up, err := openUpload(r.Context(), repo, req.upload)
	if err != nil {
		return err
	}
	defer up.Close()
	if err := h.append(w, r, up); err != nil {
		describeUpload(w, req, up)
		return err
	}
	// Only what Close has kept may be promised.
	if err := up.Close(); err != nil {
		return err
	}
	return accepted(w, req, up, http.StatusAccepted)
}

func (h *Handler) putUpload(w http.ResponseWriter, r *http.Request, req request, repo Repository) error {
	up, err := openUpload(r.Context(), repo, req.upload)
	if err != nil {
		return err
	}
	defer up.Close()
	if err := h.append(w, r, up); err != nil {
		describeUpload(w, req, up)
		return err
	}
	if _, err := up.Commit(r.Context(), req.digest); err != nil {
		return err
	}
	return created(w, req, req.digest)
}

func (h *Handler) cancelUpload(w http.ResponseWriter, r *http.Request, req request, repo Repository) error {
	up, err := openUpload(r.Context(), repo, req.upload)
	if err != nil {
		return err
	}
	defer up.Close()
	if err := up.Cancel(r.Context()); err != nil {
		return err
	}
	return empty(w, http.StatusNoContent)
}

// openUpload continues an upload.
func openUpload(ctx context.Context, repo Repository, id string) (Upload, error) {
	up, err := repo.Upload(ctx, id)
	if err == nil && up == nil {
		err = nilResult("Repository.Upload")
	}
	return up, err
}

// describeUpload says where the upload goes on and what is there, on success as well as after an error that it survived.
func describeUpload(w http.ResponseWriter, req request, up Upload) {
	header := w.Header()
	location := up.Link()
	if location == "" {
		// Relative, so that it holds behind any proxy.
		location = "/v2/" + escapeName(req.asked) + "/blobs/uploads/" + url.PathEscape(up.ID())
	}
	header["Location"] = []string{location}
	header["Docker-Upload-Uuid"] = []string{up.ID()}
	header["Range"] = []string{blobhttp.UploadRange(up.Size())}
}

func accepted(w http.ResponseWriter, req request, up Upload, status int) error {
	describeUpload(w, req, up)
	return empty(w, status)
}

func created(w http.ResponseWriter, req request, d digest.Digest) error {
	header := w.Header()
	header["Location"] = []string{"/v2/" + escapeName(req.asked) + "/blobs/" + d.String()}
	header["Docker-Content-Digest"] = []string{d.String()}
	return empty(w, http.StatusCreated)
}

// escapeName writes a name as part of a path. Names of the grammar stay as they are.
func escapeName(name string) string { return (&url.URL{Path: name}).EscapedPath() }

// bodyError gives a failed read of a body its kind.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return blobhttp.ErrSlowBody
	case errors.As(err, &tooLarge):
		return errBlobTooLarge.With("the body is longer than the server takes: %d bytes", tooLarge.Limit)
	}
	return ErrSizeInvalid.Wrap(err)
}
