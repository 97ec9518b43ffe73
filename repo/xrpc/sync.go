package xrpc

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/atcr-dev/atcr/internal/pace"
	"github.com/atcr-dev/atcr/repo"
)

// Pages of listBlobs and listRepos.
const (
	normalPage = 500
	mostPage   = 1000
)

const carType = "application/vnd.ipld.car"

func (h *Handler) getLatestCommit(w http.ResponseWriter, q query) error {
	a, err := h.did(q)
	if err != nil {
		return err
	}
	c, err := a.Repo.Head(q.Context())
	if err != nil {
		return err
	}
	WriteJSON(w, http.StatusOK, map[string]string{"cid": c.CID.String(), "rev": c.Rev})
	return nil
}

func (h *Handler) getRepoStatus(w http.ResponseWriter, q query) error {
	a, err := h.anyDID(q)
	if err != nil {
		return err
	}
	out := map[string]any{"did": a.Repo.DID(), "active": a.Status == ""}
	if a.Status != "" {
		out["status"] = a.Status
	} else {
		c, err := a.Repo.Head(q.Context())
		if err != nil {
			return err
		}
		out["rev"] = c.Rev
	}
	WriteJSON(w, http.StatusOK, out)
	return nil
}

// proveRecord returns a CAR: with the record, or with the proof that it isn't there.
func (h *Handler) proveRecord(w http.ResponseWriter, q query) error {
	a, err := h.did(q)
	if err != nil {
		return err
	}
	coll, err := q.collection()
	if err != nil {
		return err
	}
	rkey, err := q.rkey()
	if err != nil {
		return err
	}
	var car bytes.Buffer
	if err := a.Repo.Prove(q.Context(), &car, coll, rkey); err != nil {
		return err
	}
	w.Header().Set("Content-Type", carType)
	w.Write(car.Bytes()) //nolint:errcheck // the client is gone
	return nil
}

// getBlocks returns blocks by CID. Most callers ask for what a proof or an event just named; see [repo.Repo.Blocks].
func (h *Handler) getBlocks(w http.ResponseWriter, q query) error {
	a, err := h.did(q)
	if err != nil {
		return err
	}
	names := q.values["cids"]
	if len(names) == 0 || len(names) > maxBlocks {
		return InvalidRequest("Error: Params must have the property \"cids\", at most %d times", maxBlocks)
	}
	ids := make([]repo.CID, len(names))
	for i, s := range names {
		if ids[i], err = repo.ParseCID(s); err != nil {
			return InvalidRequest("Error: cids must be cid strings: %v", err)
		}
	}
	leave, ok := h.blocks.enter(w, h.client(q.Request), time.Second)
	if !ok {
		return nil
	}
	defer leave(0)
	var car bytes.Buffer
	missing, err := a.Repo.Blocks(q.Context(), &car, ids)
	if errors.Is(err, repo.ErrBusy) {
		full(w, http.StatusServiceUnavailable, 10*time.Second, "too many wait for blocks to be looked for")
		return nil
	}
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return Errorf(http.StatusBadRequest, "BlockNotFound", "Could not find cids: %s", missing)
	}
	w.Header().Set("Content-Type", carType)
	w.Header().Set("Content-Length", strconv.Itoa(car.Len()))
	paced, lift := pace.Stream(w, h.grace, h.rate) // it has its place until it is sent
	defer lift()
	paced.Write(car.Bytes()) //nolint:errcheck // the client is gone
	return nil
}

// maxBlocks is how many blocks getBlocks gives at once.
const maxBlocks = 100

func (h *Handler) getBlob(w http.ResponseWriter, q query) error {
	a, err := h.did(q)
	if err != nil {
		return err
	}
	s, err := q.required("cid")
	if err != nil {
		return err
	}
	c, err := repo.ParseCID(s)
	if err != nil {
		return InvalidRequest("Error: cid must be a cid string: %v", err)
	}
	b, err := a.Repo.GetBlob(q.Context(), c)
	if errors.Is(err, repo.ErrNotFound) {
		return InvalidRequest("Blob not found")
	}
	if err != nil {
		return err
	}
	ServeBlob(w, q.Request, c, b)
	return nil
}

// ServeBlob writes a blob, with ranges and ETag, and with the headers that keep a browser from running it.
func ServeBlob(w http.ResponseWriter, r *http.Request, c repo.CID, b repo.Blob) {
	head := w.Header()
	kind := b.MediaType
	if kind == "" {
		kind = "application/octet-stream"
	}
	head.Set("Content-Type", kind)
	head.Set("ETag", `"`+c.String()+`"`)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Disposition", `attachment; filename="`+c.String()+`"`)
	head.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b.Data))
}

func (h *Handler) listBlobs(w http.ResponseWriter, q query) error {
	a, err := h.did(q)
	if err != nil {
		return err
	}
	limit, err := q.limit(normalPage, mostPage)
	if err != nil {
		return err
	}
	var after repo.CID
	if s := q.get("cursor"); s != "" {
		if after, err = repo.ParseCID(s); err != nil {
			return InvalidRequest("Malformed cursor")
		}
	}
	since := q.get("since")
	if since != "" {
		if _, err := repo.ParseTID(since); err != nil {
			return InvalidRequest("Error: since must be a tid")
		}
	}
	out := struct {
		Cursor string   `json:"cursor,omitempty"`
		CIDs   []string `json:"cids"`
	}{CIDs: []string{}}
	for b, err := range a.Repo.ListBlobs(q.Context(), after, since) {
		if err != nil {
			return err
		}
		out.Cursor = b.CID.String()
		if out.CIDs = append(out.CIDs, out.Cursor); len(out.CIDs) == limit {
			break
		}
	}
	WriteJSON(w, http.StatusOK, out)
	return nil
}

type repoView struct {
	DID    string `json:"did"`
	Head   string `json:"head"`
	Rev    string `json:"rev"`
	Active bool   `json:"active"`
	Status string `json:"status,omitempty"`
}

func (h *Handler) listRepos(w http.ResponseWriter, q query) error {
	limit, err := q.limit(normalPage, mostPage)
	if err != nil {
		return err
	}
	out := struct {
		Cursor string     `json:"cursor,omitempty"`
		Repos  []repoView `json:"repos"`
	}{Repos: []repoView{}}
	for a, err := range h.accounts.Accounts(q.Context(), q.get("cursor")) {
		if err != nil {
			return err
		}
		c, err := a.Repo.Head(q.Context())
		if err != nil {
			return err
		}
		out.Repos = append(out.Repos, repoView{a.Repo.DID(), c.CID.String(), c.Rev, a.Status == "", a.Status})
		if len(out.Repos) == limit {
			out.Cursor = a.Repo.DID()
			break
		}
	}
	WriteJSON(w, http.StatusOK, out)
	return nil
}
