package xrpc

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/atcr-dev/atcr/repo"
)

// Pages of listRecords.
const (
	normalRecords = 50
	mostRecords   = 100
)

func (h *Handler) describeRepo(w http.ResponseWriter, q query) error {
	a, err := h.actor(q, "RepoNotFound")
	if err != nil {
		return err
	}
	out := struct {
		Handle      string          `json:"handle"`
		DID         string          `json:"did"`
		Document    json.RawMessage `json:"didDoc,omitempty"`
		Collections []string        `json:"collections"`
		Correct     bool            `json:"handleIsCorrect"`
	}{Handle: a.Handle, DID: a.Repo.DID(), Correct: a.Handle != "", Collections: []string{}}
	if out.Handle == "" {
		out.Handle = "handle.invalid"
	}
	if a.Document != nil {
		if out.Document, err = a.Document(q.Context()); err != nil {
			return InvalidRequest("Could not resolve DID: %v", err)
		}
	}
	colls, err := a.Repo.Collections(q.Context())
	if err != nil {
		return err
	}
	out.Collections = append(out.Collections, colls...)
	WriteJSON(w, http.StatusOK, out)
	return nil
}

// recordView is a record as getRecord and listRecords show it.
type recordView struct {
	URI   string          `json:"uri"`
	CID   repo.CID        `json:"cid"`
	Value json.RawMessage `json:"value"`
}

func viewRecord(did string, rec repo.Record) (recordView, error) {
	value, err := rec.JSON()
	return recordView{rec.URI(did), rec.CID, value}, err
}

func (h *Handler) getRecord(w http.ResponseWriter, q query) error {
	a, err := h.actor(q, "InvalidRequest")
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
	missing := Errorf(http.StatusBadRequest, "RecordNotFound", "Could not locate record: at://%s/%s/%s", a.Repo.DID(), coll, rkey)
	rec, err := a.Repo.Get(q.Context(), coll, rkey)
	if errors.Is(err, repo.ErrNotFound) {
		return missing
	}
	if err != nil {
		return err
	}
	if want := q.get("cid"); want != "" && want != rec.CID.String() {
		if _, err := repo.ParseCID(want); err != nil {
			return InvalidRequest("Error: cid must be a cid string")
		}
		return missing
	}
	out, err := viewRecord(a.Repo.DID(), rec)
	if err != nil {
		return err
	}
	WriteJSON(w, http.StatusOK, out)
	return nil
}

func (h *Handler) listRecords(w http.ResponseWriter, q query) error {
	a, err := h.actor(q, "InvalidRequest")
	if err != nil {
		return err
	}
	coll, err := q.collection()
	if err != nil {
		return err
	}
	limit, err := q.limit(normalRecords, mostRecords)
	if err != nil {
		return err
	}
	out := struct {
		Cursor  string       `json:"cursor,omitempty"`
		Records []recordView `json:"records"`
	}{Records: []recordView{}}
	// Newest first is the lexicon's normal order: record keys falling. Its reverse is ours forward.
	for rec, err := range a.Repo.List(q.Context(), coll, q.get("cursor"), q.get("reverse") != "true") {
		if err != nil {
			return err
		}
		v, err := viewRecord(a.Repo.DID(), rec)
		if err != nil {
			return err
		}
		out.Records = append(out.Records, v)
		out.Cursor = rec.RKey
		if len(out.Records) == limit {
			break
		}
	}
	WriteJSON(w, http.StatusOK, out)
	return nil
}
