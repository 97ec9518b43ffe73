package devnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/xrpc"
)

// maxWrites is the reference's limit of one applyWrites.
const maxWrites = 200

// writeInput is what the writing methods take; each uses its part.
type writeInput struct {
	Repo       string          `json:"repo"`
	Collection string          `json:"collection"`
	RKey       string          `json:"rkey"`
	Record     json.RawMessage `json:"record"`
	Validate   *bool           `json:"validate"`
	SwapCommit string          `json:"swapCommit"`
	SwapRecord json.RawMessage `json:"swapRecord"` // absent, null or a CID
	Writes     []struct {
		Type       string          `json:"$type"`
		Collection string          `json:"collection"`
		RKey       string          `json:"rkey"`
		Value      json.RawMessage `json:"value"`
	} `json:"writes"`
}

// writer reads the input of a writing method and makes sure that the repository is the caller's.
func (p *PDS) writer(w http.ResponseWriter, r *http.Request) (*account, *writeInput, []repo.Guard, error) {
	caller, _, err := p.access(r, false)
	if err != nil {
		return nil, nil, nil, err
	}
	var in writeInput
	if err := input(w, r, &in); err != nil {
		return nil, nil, nil, err
	}
	if _, err := syntax.ParseAtIdentifier(in.Repo); err != nil {
		return nil, nil, nil, xrpc.InvalidRequest("Error: Input/repo must be a valid did or a handle")
	}
	a := p.find(in.Repo)
	switch {
	case a == nil:
		return nil, nil, nil, xrpc.Errorf(http.StatusForbidden, "AccountNotFound", "Account not found")
	case a != caller:
		return nil, nil, nil, authRequired("", "Authentication Required")
	}
	var guards []repo.Guard
	if in.SwapCommit != "" {
		c, err := repo.ParseCID(in.SwapCommit)
		if err != nil {
			return nil, nil, nil, xrpc.InvalidRequest("Error: Input/swapCommit must be a cid string")
		}
		guards = append(guards, repo.SwapCommit(c))
	}
	return a, &in, guards, nil
}

// write makes a Write of one record, with the checks that the reference makes before it looks at the repository.
func (in *writeInput) write(action repo.Action, collection, rkey string, value json.RawMessage) (repo.Write, error) {
	w := repo.Write{Action: action, Collection: collection, RKey: rkey}
	if _, err := syntax.ParseNSID(collection); err != nil {
		return w, xrpc.InvalidRequest("Error: collection must be a valid nsid")
	}
	if rkey != "" || action != repo.Create {
		if _, err := syntax.ParseRecordKey(rkey); err != nil {
			return w, xrpc.InvalidRequest("Invalid record key: %s", rkey)
		}
	}
	if action == repo.Delete {
		return w, nil
	}
	var obj map[string]json.RawMessage
	if err := json.Unmarshal(value, &obj); err != nil || obj == nil {
		return w, xrpc.InvalidRequest("Error: Input/record must be an object")
	}
	switch raw, ok := obj["$type"]; {
	case !ok:
		obj["$type"], _ = json.Marshal(collection)
	case string(raw) != fmt.Sprintf("%q", collection):
		return w, xrpc.InvalidRequest("Invalid $type: expected %s, got %s", collection, raw)
	}
	if in.Validate != nil && *in.Validate {
		return w, xrpc.InvalidRequest("Unknown lexicon type: %s", collection)
	}
	var err error
	w.Record, err = repo.RecordFrom(obj)
	return w, err
}

// status of validation: no lexicon of records is known here.
func (in *writeInput) status(out map[string]any) {
	if in.Validate == nil {
		out["validationStatus"] = "unknown"
	}
}

func commitView(c repo.Commit) map[string]any {
	return map[string]any{"cid": c.CID.String(), "rev": c.Rev}
}

// asReference turns what the reference did not expect into its 500.
func asReference(err error) error {
	if errors.Is(err, repo.ErrExists) || errors.Is(err, repo.ErrNotFound) {
		return xrpc.Errorf(http.StatusInternalServerError, "InternalServerError", "Internal Server Error")
	}
	return err
}

func (p *PDS) createRecord(w http.ResponseWriter, r *http.Request) error {
	a, in, guards, err := p.writer(w, r)
	if err != nil {
		return err
	}
	one, err := in.write(repo.Create, in.Collection, in.RKey, in.Record)
	if err != nil {
		return err
	}
	c, err := a.repo.Apply(r.Context(), []repo.Write{one}, guards...)
	if err != nil {
		return asReference(err)
	}
	out := map[string]any{"uri": c.Results[0].URI(a.DID), "cid": c.Results[0].CID, "commit": commitView(c)}
	in.status(out)
	xrpc.WriteJSON(w, http.StatusOK, out)
	return nil
}

// errSame says that a put would change nothing: then there is no commit.
var errSame = errors.New("the record is already so")

func (p *PDS) putRecord(w http.ResponseWriter, r *http.Request) error {
	a, in, guards, err := p.writer(w, r)
	if err != nil {
		return err
	}
	one, err := in.write(repo.Put, in.Collection, in.RKey, in.Record)
	if err != nil {
		return err
	}
	swap, err := in.swapRecord()
	if err != nil {
		return err
	}
	same := func(s repo.Snapshot) error {
		now, err := s.Get(one.Collection, one.RKey)
		if err != nil && !errors.Is(err, repo.ErrNotFound) {
			return err
		}
		if err == nil && now.CID == repo.RecordCID(one.Record) {
			return errSame
		}
		return nil
	}
	// First of all the guards: the reference answers to a put that changes nothing before it looks at swaps.
	c, err := a.repo.Apply(r.Context(), []repo.Write{one}, append(append([]repo.Guard{same}, guards...), swap)...)
	out := map[string]any{"uri": "at://" + a.DID + "/" + one.Collection + "/" + one.RKey, "cid": repo.RecordCID(one.Record)}
	switch {
	case errors.Is(err, errSame):
	case err != nil:
		return err
	default:
		out["commit"] = commitView(c)
	}
	in.status(out)
	xrpc.WriteJSON(w, http.StatusOK, out)
	return nil
}

// swapRecord is the guard for the record: it must be this one, or with null must not exist.
func (in *writeInput) swapRecord() (repo.Guard, error) {
	if in.SwapRecord == nil {
		return func(repo.Snapshot) error { return nil }, nil
	}
	var text *string
	var want repo.CID
	err := json.Unmarshal(in.SwapRecord, &text)
	if err == nil && text != nil {
		want, err = repo.ParseCID(*text)
	}
	if err != nil {
		return nil, xrpc.InvalidRequest("Error: Input/swapRecord must be a cid string")
	}
	return func(s repo.Snapshot) error {
		now, err := s.Get(in.Collection, in.RKey)
		if err != nil && !errors.Is(err, repo.ErrNotFound) {
			return err
		}
		if now.CID != want {
			return fmt.Errorf("%w: Record was at %s", repo.ErrInvalidSwap, now.CID)
		}
		return nil
	}, nil
}

func (p *PDS) deleteRecord(w http.ResponseWriter, r *http.Request) error {
	a, in, guards, err := p.writer(w, r)
	if err != nil {
		return err
	}
	one, err := in.write(repo.Delete, in.Collection, in.RKey, nil)
	if err != nil {
		return err
	}
	if string(in.SwapRecord) == "null" {
		in.SwapRecord = nil
	}
	swap, err := in.swapRecord()
	if err != nil {
		return err
	}
	there := func(s repo.Snapshot) error { _, err := s.Get(one.Collection, one.RKey); return err }
	out := map[string]any{}
	c, err := a.repo.Apply(r.Context(), []repo.Write{one}, append(append([]repo.Guard{there}, guards...), swap)...)
	switch {
	case errors.Is(err, repo.ErrNotFound): // nothing to do
	case err != nil:
		return err
	default:
		out["commit"] = commitView(c)
	}
	xrpc.WriteJSON(w, http.StatusOK, out)
	return nil
}

func (p *PDS) applyWrites(w http.ResponseWriter, r *http.Request) error {
	a, in, guards, err := p.writer(w, r)
	if err != nil {
		return err
	}
	if in.Writes == nil {
		return xrpc.InvalidRequest("Error: Input must have the property \"writes\"")
	}
	if len(in.Writes) > maxWrites {
		return xrpc.InvalidRequest("Too many writes. Max: %d", maxWrites)
	}
	var ws []repo.Write
	for i, one := range in.Writes {
		action, ok := strings.CutPrefix(one.Type, "com.atproto.repo.applyWrites#")
		if a := repo.Action(action); !ok || (a != repo.Create && a != repo.Update && a != repo.Delete) {
			return xrpc.InvalidRequest("Error: Input/writes/%d must be one of create, update, delete", i)
		}
		made, err := in.write(repo.Action(action), one.Collection, one.RKey, one.Value)
		if err != nil {
			return err
		}
		ws = append(ws, made)
	}
	c, err := a.repo.Apply(r.Context(), ws, guards...)
	if err != nil {
		return asReference(err)
	}
	results := make([]map[string]any, len(c.Results))
	for i, res := range c.Results {
		results[i] = map[string]any{"$type": "com.atproto.repo.applyWrites#" + string(res.Action) + "Result"}
		if res.Action != repo.Delete {
			results[i]["uri"], results[i]["cid"] = res.URI(a.DID), res.CID
			in.status(results[i])
		}
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]any{"commit": commitView(c), "results": results})
	return nil
}

func (p *PDS) uploadBlob(w http.ResponseWriter, r *http.Request) error {
	a, _, err := p.access(r, false)
	if err != nil {
		return err
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return xrpc.InvalidRequest("Request encoding (Content-Type) required but not provided")
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, p.cfg.MaxBlob))
	if err != nil {
		return err
	}
	b, err := a.repo.PutBlob(r.Context(), repo.Blob{MediaType: kind, Data: data})
	if err != nil {
		return err
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]any{"blob": map[string]any{
		"$type": "blob", "ref": map[string]string{"$link": b.CID.String()}, "mimeType": b.MediaType, "size": b.Size,
	}})
	return nil
}
