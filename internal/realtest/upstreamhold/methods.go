package upstreamhold

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

const maxDigest = 128

type partRef struct {
	PartNumber int    `json:"partNumber"`
	ETag       string `json:"etag"`
}

type descriptor struct {
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	MediaType string `json:"mediaType"`
}

// input is the union of what the methods take.
type input struct {
	Digest         string    `json:"digest"`
	UploadID       string    `json:"uploadId"`
	PartNumber     int       `json:"partNumber"`
	Parts          []partRef `json:"parts"`
	Repository     string    `json:"repository"`
	UserDID        string    `json:"userDid"`
	ManifestDigest string    `json:"manifestDigest"`
	Operation      string    `json:"operation"`
	Permissions    []string  `json:"permissions"`
	Manifest       *struct {
		Config *descriptor  `json:"config"`
		Layers []descriptor `json:"layers"`
	} `json:"manifest"`
}

func refuse(w http.ResponseWriter, status int, name, message string) {
	answer(w, status, map[string]string{"error": name, "message": message})
}

func (h *Hold) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/.well-known/did.json" {
		h.document(w)
		return
	}
	method, ok := strings.CutPrefix(r.URL.Path, "/xrpc/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	h.mu.Lock()
	h.seen = append(h.seen, r.Method+" "+method)
	h.mu.Unlock()
	var in input
	if r.Method == http.MethodPost {
		b, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
		if err != nil || len(b) > 0 && json.Unmarshal(b, &in) != nil {
			refuse(w, http.StatusBadRequest, "InvalidRequest", "body")
			return
		}
	}
	switch r.Method + " " + method {
	case "GET _health":
		answer(w, http.StatusOK, map[string]string{"version": "upstream"})
	case "GET com.atproto.server.describeServer":
		answer(w, http.StatusOK, map[string]any{"did": h.DID, "availableUserDomains": []string{}})
	case "GET com.atproto.repo.getRecord":
		h.getRecord(w, r)
	case "GET com.atproto.repo.listRecords":
		h.listRecords(w, r)
	case "GET com.atproto.sync.getBlob", "HEAD com.atproto.sync.getBlob":
		h.getBlob(w, r)
	case "POST io.atcr.hold.initiateUpload", "POST io.atcr.hold.getPartUploadUrl",
		"POST io.atcr.hold.completeUpload", "POST io.atcr.hold.abortUpload":
		if did, ok := h.may(w, r, method, "blob:write"); ok {
			h.upload(w, method, did, in)
		}
	case "POST io.atcr.hold.notifyManifest":
		h.notify(w, r, in)
	case "POST io.atcr.hold.requestCrew":
		h.requestCrew(w, r, in)
	case "GET io.atcr.hold.getQuota":
		h.quota(w, r)
	default:
		http.NotFound(w, r)
	}
}

// may finds the caller and holds a permission against its crew record; empty wants a token only.
func (h *Hold) may(w http.ResponseWriter, r *http.Request, method, permission string) (string, bool) {
	claims, err := h.verifier.VerifyRequest(r, method)
	if err != nil {
		refuse(w, http.StatusUnauthorized, "AuthRequired", err.Error())
		return "", false
	}
	did := claims.Issuer.String()
	if permission == "" || did == h.o.Owner {
		return did, true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.crew {
		if c.Value["member"] != did {
			continue
		}
		has := c.Value["permissions"].([]string)
		if slices.Contains(has, permission) || permission == "blob:read" && slices.Contains(has, "blob:write") {
			return did, true
		}
	}
	refuse(w, http.StatusForbidden, "AccessDenied", permission)
	return "", false
}

func (h *Hold) getBlob(w http.ResponseWriter, r *http.Request) {
	if !h.o.Public {
		if _, ok := h.may(w, r, "com.atproto.sync.getBlob", "blob:read"); !ok {
			return
		}
	}
	d := r.URL.Query().Get("cid")
	if len(d) > maxDigest {
		refuse(w, http.StatusBadRequest, "InvalidDigest", "digest is longer than 128")
		return
	}
	size, ok := h.bucket.size(d)
	if !ok {
		refuse(w, http.StatusNotFound, "BlobNotFound", d)
		return
	}
	switch {
	case h.o.GetBlob == Redirect:
		http.Redirect(w, r, h.bucket.sign(r.Method, "/blob/"+d), http.StatusTemporaryRedirect)
	case h.o.GetBlob == URLJSON:
		answer(w, http.StatusOK, map[string]string{"url": h.bucket.sign(http.MethodGet, "/blob/"+d)})
	case r.Method == http.MethodHead:
		w.Header().Set("Content-Length", strconv.Itoa(size))
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(h.bucket.get(d))
	}
}

func (h *Hold) upload(w http.ResponseWriter, method, did string, in input) {
	h.mu.Lock()
	owner, known := h.uploads[in.UploadID]
	h.mu.Unlock()
	if method == "io.atcr.hold.initiateUpload" {
		if in.Digest == "" || len(in.Digest) > maxDigest {
			refuse(w, http.StatusBadRequest, "InvalidDigest", "digest is missing or longer than 128")
			return
		}
		h.mu.Lock()
		id := "upload-" + h.nextKey()
		h.uploads[id] = did
		h.mu.Unlock()
		h.bucket.begin(id)
		answer(w, http.StatusOK, map[string]string{"uploadId": id})
		return
	}
	if !known || owner != did {
		refuse(w, http.StatusBadRequest, "InvalidUploadId", "unknown upload")
		return
	}
	switch method {
	case "io.atcr.hold.getPartUploadUrl":
		if in.PartNumber < 1 {
			refuse(w, http.StatusBadRequest, "InvalidPartNumber", "partNumber")
			return
		}
		url := h.bucket.sign(http.MethodPut, fmt.Sprintf("/part/%s/%d", in.UploadID, in.PartNumber))
		answer(w, http.StatusOK, map[string]any{"url": url, "method": "PUT"})
	case "io.atcr.hold.completeUpload":
		d, err := digest.Parse(in.Digest)
		if err != nil || len(in.Digest) > maxDigest {
			refuse(w, http.StatusBadRequest, "InvalidDigest", "digest")
			return
		}
		if name := h.bucket.complete(in.UploadID, d, in.Parts); name != "" {
			refuse(w, http.StatusBadRequest, name, "the parts don't make the blob")
			return
		}
		answer(w, http.StatusOK, map[string]string{"status": "completed", "digest": in.Digest})
	default:
		h.bucket.abort(in.UploadID)
		answer(w, http.StatusOK, map[string]string{"status": "aborted"})
	}
}

// notify believes what it is told, as upstream does.
func (h *Hold) notify(w http.ResponseWriter, r *http.Request, in input) {
	permission := "blob:write"
	if in.Operation == "pull" {
		permission = ""
	}
	did, ok := h.may(w, r, "io.atcr.hold.notifyManifest", permission)
	if !ok {
		return
	}
	switch {
	case in.Operation != "" && in.Operation != "push" && in.Operation != "pull":
		refuse(w, http.StatusBadRequest, "InvalidOperation", in.Operation)
		return
	case len(in.ManifestDigest) > maxDigest || len(in.Repository) > 256 || in.Manifest == nil:
		refuse(w, http.StatusBadRequest, "InvalidRequest", "a field is missing or too long")
		return
	case in.Operation != "pull" && in.UserDID != did:
		refuse(w, http.StatusForbidden, "UserMismatch", "userDid is not the token's")
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.stats[in.UserDID+"/"+in.Repository]
	if c == nil {
		c = &counts{}
		h.stats[in.UserDID+"/"+in.Repository] = c
	}
	if in.Operation == "pull" {
		c.Pulls++
		answer(w, http.StatusOK, map[string]any{"success": true, "operation": "pull", "statsUpdated": true})
		return
	}
	c.Pushes++
	_, hex, _ := strings.Cut(in.ManifestDigest, ":")
	for _, l := range in.Manifest.Layers {
		h.layers = append(h.layers, record{RKey: h.nextKey(), Value: map[string]any{
			"$type": "io.atcr.hold.layer", "digest": l.Digest, "size": l.Size, "mediaType": l.MediaType,
			"manifest": "at://" + did + "/io.atcr.manifest/" + hex, "userDid": did, "createdAt": time.Now().UTC().Format(time.RFC3339),
		}})
	}
	answer(w, http.StatusOK, map[string]any{
		"success": true, "operation": "push", "statsUpdated": true, "layersCreated": len(in.Manifest.Layers), "postCreated": false,
	})
}

func (h *Hold) requestCrew(w http.ResponseWriter, r *http.Request, in input) {
	did, ok := h.may(w, r, "io.atcr.hold.requestCrew", "")
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.crew {
		if c.Value["member"] == did {
			answer(w, http.StatusOK, map[string]string{"status": "already_member", "uri": "at://" + h.DID + "/io.atcr.hold.crew/" + c.RKey})
			return
		}
	}
	if !h.o.AllowAllCrew {
		refuse(w, http.StatusForbidden, "RegistrationDisabled", "closed")
		return
	}
	if in.Permissions == nil {
		in.Permissions = []string{"blob:read", "blob:write"}
	}
	c := h.addCrew(did, in.Permissions)
	answer(w, http.StatusOK, map[string]string{"status": "created", "uri": "at://" + h.DID + "/io.atcr.hold.crew/" + c.RKey})
}

func (h *Hold) quota(w http.ResponseWriter, r *http.Request) {
	did := r.URL.Query().Get("userDid")
	h.mu.Lock()
	defer h.mu.Unlock()
	sizes, total := map[string]int64{}, int64(0)
	for _, l := range h.layers {
		if l.Value["userDid"] == did {
			sizes[l.Value["digest"].(string)] = l.Value["size"].(int64)
		}
	}
	for _, n := range sizes {
		total += n
	}
	answer(w, http.StatusOK, map[string]any{"userDid": did, "uniqueBlobs": len(sizes), "totalSize": total})
}

func (h *Hold) collection(name string) []record {
	switch name {
	case "io.atcr.hold.captain":
		return []record{{RKey: "self", Value: h.captain()}}
	case "io.atcr.hold.crew":
		return h.crew
	case "io.atcr.hold.layer":
		return h.layers
	}
	return nil
}

func (h *Hold) getRecord(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, rec := range h.collection(q.Get("collection")) {
		if rec.RKey == q.Get("rkey") {
			answer(w, http.StatusOK, map[string]any{"uri": h.uri(q.Get("collection"), rec), "cid": "", "value": rec.Value})
			return
		}
	}
	refuse(w, http.StatusNotFound, "RecordNotFound", "no such record")
}

func (h *Hold) uri(collection string, r record) string {
	return "at://" + h.DID + "/" + collection + "/" + r.RKey
}

// listRecords gives pages of fifty at most, newest first.
func (h *Hold) listRecords(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 || limit > 50 {
		limit = 50
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Clone(h.collection(q.Get("collection")))
	slices.Reverse(all)
	out, cursor := []any{}, ""
	for _, rec := range all {
		if c := q.Get("cursor"); c != "" && rec.RKey >= c {
			continue
		}
		if len(out) == limit {
			break
		}
		out = append(out, map[string]any{"uri": h.uri(q.Get("collection"), rec), "cid": "", "value": rec.Value})
		cursor = rec.RKey
	}
	page := map[string]any{"records": out}
	if len(out) == limit {
		page["cursor"] = cursor
	}
	answer(w, http.StatusOK, page)
}
