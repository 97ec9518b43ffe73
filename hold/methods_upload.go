package hold

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/internal/ledger"
	"github.com/atcr-dev/atcr/hold/internal/upload"
	"github.com/atcr-dev/atcr/internal/oci"
	"github.com/atcr-dev/atcr/internal/pace"
	"github.com/atcr-dev/atcr/storage"
)

const (
	maxCheckBlobs = 1000
	bodyGrace     = 30 * time.Second // a part may come as slowly as this and bodyRate say
	bodyRate      = 1024             // bytes a second
)

// announced is the digest that an upload begins under. AppViews that stream don't know it yet: they say nothing, or, as
// upstream's does, a temporary name.
func announced(text string) (digest.Digest, error) {
	if text == "" || strings.HasPrefix(text, "uploads/temp-") && len(text) <= 128 {
		return "", nil
	}
	d := digest.Digest(text)
	return d, storage.CheckDigest(d)
}

func (s *Server) initiateUpload(ctx context.Context, c *call) (any, error) {
	var in struct {
		Digest string `json:"digest"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	d, err := announced(in.Digest)
	if err != nil {
		return nil, err
	}
	id, err := s.uploads.Begin(ctx, c.caller, d)
	if err != nil {
		return nil, err
	}
	return map[string]string{"uploadId": id}, nil
}

// ofCaller refuses a token of somebody else; without one the uploadId is enough.
func ofCaller(c *call, u *upload.Upload) error {
	if c.caller != "" && c.caller != u.DID {
		return invalidUpload("the upload was begun by another account")
	}
	return nil
}

func (s *Server) getPartUploadURL(ctx context.Context, c *call) (any, error) {
	var in struct {
		UploadID   string `json:"uploadId"`
		PartNumber int    `json:"partNumber"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	u, err := s.uploads.Find(ctx, in.UploadID)
	if err == nil {
		err = ofCaller(c, u)
	}
	if err == nil {
		err = checkPartNumber(in.PartNumber)
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"url":    s.cfg.PublicURL + "/xrpc/io.atcr.hold.uploadPart",
		"method": http.MethodPut,
		"headers": map[string]string{
			"X-Upload-Id": in.UploadID, "X-Part-Number": strconv.Itoa(in.PartNumber),
		},
	}, nil
}

func checkPartNumber(n int) error {
	if n < 1 || n > upload.MaxParts {
		return fail(http.StatusBadRequest, "InvalidPartNumber", "partNumber is %d, want 1 to %d", n, upload.MaxParts)
	}
	return nil
}

func (s *Server) uploadPart(w http.ResponseWriter, r *http.Request, c *call) error {
	id := r.Header.Get("X-Upload-Id")
	n, err := strconv.Atoi(r.Header.Get("X-Part-Number"))
	if err != nil {
		return fail(http.StatusBadRequest, "InvalidPartNumber", "the header X-Part-Number is no number")
	}
	if err := checkPartNumber(n); err != nil {
		return err
	}
	u, err := s.uploads.Find(r.Context(), id)
	if err == nil {
		err = ofCaller(c, u)
	}
	if err != nil {
		return err
	}
	pace.Body(w, r, bodyGrace, bodyRate)
	p, err := s.uploads.Take(r.Context(), id, n, r.Body)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", `"`+p.ETag+`"`)
	writeJSON(w, http.StatusOK, map[string]string{"etag": p.ETag})
	return nil
}

func (s *Server) completeUploadCall(ctx context.Context, c *call) (any, error) {
	var in struct {
		UploadID string         `json:"uploadId"`
		Digest   digest.Digest  `json:"digest"`
		Parts    []upload.Given `json:"parts"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := storage.CheckDigest(in.Digest); err != nil {
		return nil, err
	}
	if len(in.Parts) > upload.MaxParts {
		return nil, invalid("%d parts are named, at most %d are taken", len(in.Parts), upload.MaxParts)
	}
	if err := s.uploads.Complete(ctx, in.UploadID, c.caller, in.Digest, in.Parts); err != nil {
		return nil, err
	}
	return map[string]string{"status": "completed", "digest": in.Digest.String()}, nil
}

func (s *Server) abortUploadCall(ctx context.Context, c *call) (any, error) {
	var in struct {
		UploadID string `json:"uploadId"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	u, err := s.uploads.Find(ctx, in.UploadID)
	if err == nil {
		err = ofCaller(c, u)
	}
	if err == nil {
		err = s.uploads.Abort(ctx, in.UploadID)
	}
	if err != nil {
		return nil, err
	}
	return map[string]string{"status": "aborted"}, nil
}

func (s *Server) getUpload(ctx context.Context, c *call) (any, error) {
	u, err := s.uploads.Find(ctx, c.r.URL.Query().Get("uploadId"))
	if err == nil {
		err = ofCaller(c, u)
	}
	if err != nil {
		return nil, err
	}
	parts, err := s.uploads.Parts(ctx, u)
	if err != nil {
		return nil, err
	}
	return struct {
		Digest digest.Digest `json:"digest,omitempty"`
		Offset int64         `json:"offset"`
		Parts  []upload.Part `json:"parts"`
	}{u.Digest, u.Bytes, parts}, nil
}

func (s *Server) checkBlobs(ctx context.Context, c *call) (any, error) {
	var in struct {
		Repository string          `json:"repository"`
		Digests    []digest.Digest `json:"digests"`
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := oci.CheckName(in.Repository); err != nil {
		return nil, invalid("repository: %v", err)
	}
	if len(in.Digests) > maxCheckBlobs {
		return nil, invalid("%d digests are asked for, at most %d are taken", len(in.Digests), maxCheckBlobs)
	}
	for i, d := range in.Digests {
		if err := storage.CheckDigest(d); err != nil {
			return nil, invalidDigest("digests[%d]: %v", i, err)
		}
	}
	present, err := s.blobs.present(ctx, in.Digests)
	if err == nil && len(present) > 0 {
		// Leased first, then looked for: what counts is the look after the lease. The first one spares leases on what isn't here.
		if err = s.ledger.Take(ctx, c.caller, in.Repository, present); err == nil {
			present, err = s.blobs.present(ctx, digestsOf(present))
		}
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{"present": present}, nil
}

func digestsOf(blobs []ledger.Blob) (list []digest.Digest) {
	for _, b := range blobs {
		list = append(list, b.Digest)
	}
	return list
}

// notifyManifest: what is asked of the caller depends on the operation.
func (s *Server) notifyManifest(ctx context.Context, c *call) (any, error) {
	var n notice
	if err := c.decode(&n); err != nil {
		return nil, err
	}
	if err := n.check(); err != nil {
		return nil, err
	}
	if n.Operation == "pull" {
		if err := s.allow(c, reader); err != nil {
			return nil, err
		}
		return s.notices.pull(ctx, c.caller, n)
	}
	if n.UserDID != c.caller {
		return nil, fail(http.StatusForbidden, "UserMismatch", "userDid is %s, the token is of %s", clip(n.UserDID), c.caller)
	}
	switch n.Operation {
	case "", "push":
		if err := s.allow(c, writer); err != nil {
			return nil, err
		}
		return s.notices.push(ctx, n)
	case "delete":
		if c.legacy {
			return nil, unauthorized("BadJwtLexiconMethod", "a delete needs a token with lxm=io.atcr.hold.notifyManifest")
		}
		return s.notices.remove(ctx, n)
	}
	return nil, fail(http.StatusBadRequest, "InvalidOperation", "operation is %q, want push, pull or delete", clip(n.Operation))
}
