package registry

import (
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	distspec "github.com/opencontainers/distribution-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxListBytes bounds a list of referrers, whose entries carry annotations: one answer is an index, and that has 4 MiB.
const maxListBytes = 3 << 20

func (h *Handler) listTags(w http.ResponseWriter, r *http.Request, req request, repo Repository) error {
	tags, more, err := collect(listed("Repository.Tags", repo.Tags(r.Context(), req.page.last)), h.limit(req.page))
	if err != nil {
		return err
	}
	if more {
		w.Header()["Link"] = []string{nextLink("/v2/"+escapeName(req.asked)+"/tags/list", url.Values{}, len(tags), tags[len(tags)-1])}
	}
	body, err := json.Marshal(distspec.TagList{Name: req.asked, Tags: tags})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", body)
	return nil
}

func (h *Handler) listRepositories(w http.ResponseWriter, r *http.Request, req request) error {
	actor, err := h.opts.Authorizer.Authorize(r, []Access{{Actions: []Action{Pull}}})
	if err != nil {
		return err
	}
	list := listed("Backend.Repositories", h.backend.Repositories(r.Context(), actor, req.page.last))
	names, more, err := collect(list, h.limit(req.page))
	if err != nil {
		return challenged(err, actor)
	}
	if more {
		w.Header()["Link"] = []string{nextLink("/v2/_catalog", url.Values{}, len(names), names[len(names)-1])}
	}
	body, err := json.Marshal(distspec.RepositoryList{Repositories: names})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", body)
	return nil
}

// errNoReferrers is the answer by which clients learn that they have to look for a tag in place of the list (distribution
// specification, "Unavailable Referrers API"); at any other status they stop.
var errNoReferrers = newKind(ErrUnsupported.Code, http.StatusNotFound, "this repository has no lists of referrers")

func (h *Handler) listReferrers(w http.ResponseWriter, r *http.Request, req request, repo Repository) error {
	list := listed("Repository.Referrers", repo.Referrers(r.Context(), req.digest, req.artifactType, digest.Digest(req.page.last)))
	entries, last, more, err := collectReferrers(list, h.limit(req.page))
	if errors.Is(err, ErrUnsupported) {
		return errNoReferrers
	}
	if err != nil {
		return err
	}
	query := url.Values{}
	if req.artifactType != "" {
		query.Set("artifactType", req.artifactType)
		w.Header()["Oci-Filters-Applied"] = []string{"artifactType"}
	}
	if more {
		w.Header()["Link"] = []string{nextLink("/v2/"+escapeName(req.asked)+"/referrers/"+req.digest.String(), query,
			h.limit(req.page), last)}
	}
	body, err := json.Marshal(struct {
		specs.Versioned
		MediaType string            `json:"mediaType"`
		Manifests []json.RawMessage `json:"manifests"`
	}{specs.Versioned{SchemaVersion: 2}, ocispec.MediaTypeImageIndex, entries})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, ocispec.MediaTypeImageIndex, body)
	return nil
}

// limit is how many entries are answered.
func (h *Handler) limit(p page) int {
	if p.n < 0 || p.n > h.opts.PageSize {
		return h.opts.PageSize
	}
	return p.n
}

// collect takes up to limit entries and says whether there are more. With a limit of 0 there are never more, but the list is
// begun, so that an unknown repository is told.
func collect(list iter.Seq2[string, error], limit int) (entries []string, more bool, err error) {
	entries = []string{}
	for entry, err := range list {
		if err != nil {
			return nil, false, err
		}
		if len(entries) == limit {
			return entries, limit > 0, nil
		}
		entries = append(entries, entry)
	}
	return entries, false, nil
}

// collectReferrers is collect for descriptors, bounded in bytes as well. What nobody knows has no referrers.
func collectReferrers(list iter.Seq2[ocispec.Descriptor, error], limit int) (entries []json.RawMessage, last string, more bool, err error) {
	entries = []json.RawMessage{}
	size := 0
	for d, err := range list {
		if errors.Is(err, ErrNameUnknown) || errors.Is(err, ErrManifestUnknown) {
			break
		}
		if err != nil {
			return nil, "", false, err
		}
		data, err := json.Marshal(d)
		if err != nil {
			return nil, "", false, err
		}
		size += len(data) + 1
		if len(entries) == limit || len(entries) > 0 && size > maxListBytes {
			return entries, last, limit > 0, nil
		}
		entries, last = append(entries, data), d.Digest.String()
	}
	return entries, last, false, nil
}

// nextLink names the next page (RFC 8288).
func nextLink(path string, query url.Values, n int, last string) string {
	query.Set("n", strconv.Itoa(n))
	query.Set("last", last)
	return "<" + path + "?" + query.Encode() + `>; rel="next"`
}
