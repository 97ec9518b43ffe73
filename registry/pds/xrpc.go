package pds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/repo"
)

// Limits of what a PDS may answer.
const (
	callTimeout   = 30 * time.Second
	maxAnswer     = 4 << 20  // JSON of one record or commit
	maxPageAnswer = 16 << 20 // JSON of one page of records
	maxBlob       = 4 << 20  // a manifest
	pageSize      = 100

	methodGetRecord = "com.atproto.repo.getRecord"
	methodGetBlob   = "com.atproto.sync.getBlob"

	methodApplyWrites = "com.atproto.repo.applyWrites"
)

// Answers of a PDS that callers tell apart.
var (
	errNoRecord    = errors.New("no such record")
	errInvalidSwap = errors.New("the repository has changed since it was read")
	errTooLarge    = errors.New("the answer is too large")
	errRepoGone    = errors.New("the repository is not to be had at its PDS")
	// errUnknownOutcome marks a write of which nobody knows whether it took place.
	errUnknownOutcome = errors.New("outcome unknown")
)

// pds is one PDS, read without credentials.
type pds struct {
	base  string // scheme and host
	did   string // the owner, to whose share of the budget the answers count
	http  *http.Client
	clock func() time.Time
}

type record struct {
	URI   string          `json:"uri"`
	CID   string          `json:"cid"`
	Value json.RawMessage `json:"value"`
}

type commit struct {
	CID string `json:"cid"`
	Rev string `json:"rev"`
}

// ask sends a query. The caller has the time limit, and closes the body.
func (p pds) ask(ctx context.Context, method string, q url.Values) (*http.Response, error) {
	ctx = httpx.WithShare(ctx, p.did)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/xrpc/"+method+"?"+q.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, silent(p.base, method, err)
	}
	return resp, nil
}

// get asks a query method and reads its JSON answer into out.
func (p pds) get(ctx context.Context, method string, q url.Values, limit int64, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := p.ask(ctx, method, q)
	if err != nil {
		return err
	}
	return p.judge(method, readAnswer(p.base, method, resp, limit, p.clock(), out))
}

// judge gives a failed query its kind: what the record or account lacks, or a PDS that does not answer as one should.
func (p pds) judge(method string, err error) error {
	known := []error{errRepoGone, errTooLarge, registry.ErrUnavailable, registry.ErrTooManyRequests}
	if method == methodGetRecord || method == methodGetBlob {
		known = append(known, errNoRecord)
	}
	for _, k := range known {
		if err == nil || errors.Is(err, k) {
			return err
		}
	}
	return silent(p.base, method, err)
}

// silent is the error of a PDS that does not answer, or may not be asked.
func silent(host, method string, err error) error {
	if errors.Is(err, httpx.ErrForbiddenAddress) { // asking again does not help
		return registry.ErrDenied.With("the PDS %s can't be used: its address is not public, or not one that this registry may ask", host).
			Wrap(fmt.Errorf("%s: %w", method, err))
	}
	e := registry.ErrUnavailable.With("the PDS %s does not answer: try again later", host).Wrap(fmt.Errorf("%s: %w", method, err))
	e.RetryAfter = 10 * time.Second
	return e
}

// readAnswer reads a JSON answer, or turns a refusal into an error.
func readAnswer(host, method string, resp *http.Response, limit int64, now time.Time, out any) error {
	body, err := httpx.ReadLimited(resp, limit)
	return takeAnswer(host, method, resp, body, err, now, out)
}

// takeAnswer is readAnswer for an answer whose body was read, or not.
func takeAnswer(host, method string, resp *http.Response, body []byte, err error, now time.Time, out any) error {
	if errors.Is(err, httpx.ErrTooLarge) {
		return fmt.Errorf("%w: %w", errTooLarge, silent(host, method, err))
	}
	if errors.Is(err, httpx.ErrNoPlace) {
		return noPlace(host, method, err)
	}
	if err != nil {
		return silent(host, method, err)
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(host, method, resp, body, now)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return silent(host, method, fmt.Errorf("answer is no JSON of the method's form: %w", err))
	}
	return nil
}

// noPlace is the error of an answer for which there was no room.
func noPlace(host, method string, err error) error {
	e := registry.ErrUnavailable.With("too many answers of PDSes are being read: try again later").
		Wrap(fmt.Errorf("%s of %s: %w", method, host, err))
	e.RetryAfter = 10 * time.Second
	return e
}

// refusal maps what a PDS refused. The messages name the PDS, since its owner is who can help.
func refusal(host, method string, resp *http.Response, body []byte, now time.Time) error {
	var x struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(body, &x) // no JSON is no name
	cause := fmt.Errorf("%s at %s: %d %s: %s", method, host, resp.StatusCode, clip(x.Error), clip(x.Message))
	switch x.Error {
	case "InvalidRequest":
		if strings.Contains(x.Message, "ould not locate record") || strings.Contains(x.Message, "lob not found") { // as some say it
			return fmt.Errorf("%w: %w", errNoRecord, cause)
		}
	case "RecordNotFound", "BlobNotFound":
		return fmt.Errorf("%w: %w", errNoRecord, cause)
	case "InvalidSwap":
		return fmt.Errorf("%w: %w", errInvalidSwap, cause)
	case "RepoNotFound", "RepoDeactivated", "RepoTakendown", "RepoSuspended", "AccountDeactivated", "AccountTakedown":
		return fmt.Errorf("%w: %w", errRepoGone, registry.ErrNameUnknown.With("the PDS %s has no such account any more", host).Wrap(cause))
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		e := registry.ErrTooManyRequests.With("the PDS %s asks to slow down", host).Wrap(cause)
		e.RetryAfter = retryAfter(resp.Header, now)
		return e
	case resp.StatusCode == http.StatusUnauthorized:
		return registry.ErrUnauthorized.With("the PDS %s does not take this session any more: sign in again", host).Wrap(cause)
	case resp.StatusCode == http.StatusForbidden:
		return registry.ErrDenied.With("the PDS %s refuses: %s", host, clip(x.Message)).Wrap(cause)
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %w", errNoRecord, cause)
	case resp.StatusCode == http.StatusRequestEntityTooLarge || x.Error == "BlobTooLarge":
		return registry.ErrManifestTooLarge.With("the PDS %s does not take a blob or record of this size: %s", host, clip(x.Message)).
			Wrap(cause)
	case resp.StatusCode >= 500 || resp.StatusCode < 400:
		e := registry.ErrUnavailable.With("the PDS %s fails (%d): try again later", host, resp.StatusCode).Wrap(cause)
		e.RetryAfter = max(retryAfter(resp.Header, now), 10*time.Second)
		return e
	}
	return registry.ErrManifestInvalid.With("the PDS %s refuses it: %s: %s", host, clip(x.Error), clip(x.Message)).Wrap(cause)
}

// retryAfter reads Retry-After, or the ratelimit-reset (unix seconds) that PDSes send in its place; at least a second.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if d, ok := httpx.RetryAfter(h, now); ok {
		return max(d, time.Second)
	}
	if s, err := strconv.ParseInt(h.Get("Ratelimit-Reset"), 10, 64); err == nil {
		return min(max(time.Unix(s, 0).Sub(now), time.Second), httpx.MaxRetryAfter)
	}
	return time.Second
}

func (p pds) getRecord(ctx context.Context, did, collection, rkey string) (record, error) {
	var r record
	err := p.get(ctx, methodGetRecord, url.Values{"repo": {did}, "collection": {collection}, "rkey": {rkey}}, maxAnswer, &r)
	return r, err
}

func (p pds) latestCommit(ctx context.Context, did string) (commit, error) {
	var c commit
	err := p.get(ctx, "com.atproto.sync.getLatestCommit", url.Values{"did": {did}}, maxAnswer, &c)
	if err == nil && (c.CID == "" || c.Rev == "") {
		err = silent(p.base, "com.atproto.sync.getLatestCommit", errors.New("neither cid nor rev"))
	}
	return c, err
}

// blob gives a record's blob, checked against its CID.
func (p pds) blob(ctx context.Context, did, cid string) ([]byte, error) {
	const method = methodGetBlob
	want, err := repo.ParseCID(cid)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := p.ask(ctx, method, url.Values{"did": {did}, "cid": {cid}})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, p.judge(method, readAnswer(p.base, method, resp, maxAnswer, p.clock(), nil))
	}
	body, err := httpx.ReadLimited(resp, maxBlob)
	switch {
	case errors.Is(err, httpx.ErrTooLarge):
		return nil, fmt.Errorf("%s at %s: %w", method, p.base, errTooLarge)
	case errors.Is(err, httpx.ErrNoPlace):
		return nil, noPlace(p.base, method, err)
	case err != nil:
		return nil, silent(p.base, method, err)
	}
	if repo.BlobCID(body) != want {
		return nil, silent(p.base, method, fmt.Errorf("the bytes of %s are not those of its CID", cid))
	}
	return body, nil
}

// acting calls PDSes as signed-in accounts.
type acting struct {
	sessions Sessions // nil: nobody is signed in
	clock    func() time.Time
}

// post calls a procedure as the session's account. An error of which the outcome is unknown wraps errUnknownOutcome.
func (a acting) post(ctx context.Context, session, method, contentType string, body []byte, out any) error {
	if a.sessions == nil || session == "" {
		return registry.ErrUnauthorized.With("sign in to write: there is no session")
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "/xrpc/"+method, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req.Header.Set("Content-Type", contentType)
	resp, err := a.sessions.Do(ctx, session, req)
	if err != nil {
		for _, known := range []error{registry.ErrUnauthorized, registry.ErrTooManyRequests, registry.ErrDenied} {
			if errors.Is(err, known) {
				return fmt.Errorf("%s: %w", method, err)
			}
		}
		if !errors.Is(err, registry.ErrUnavailable) {
			err = silent("of the account", method, err)
		}
		return fmt.Errorf("%w: %w", errUnknownOutcome, err)
	}
	host := "of the account"
	if resp.Request != nil && resp.Request.URL != nil && resp.Request.URL.Host != "" {
		host = resp.Request.URL.Scheme + "://" + resp.Request.URL.Host
	}
	err = readAnswer(host, method, resp, maxAnswer, a.clock(), out)
	if errors.Is(err, registry.ErrUnavailable) || errors.Is(err, errTooLarge) {
		err = fmt.Errorf("%w: %w", errUnknownOutcome, err)
	}
	if errors.Is(err, errNoRecord) || errors.Is(err, errInvalidSwap) && method != methodApplyWrites {
		err = silent(host, method, err) // no answer that the method has
	}
	return err
}

// uploadBlob puts bytes into the account's PDS.
func (a acting) uploadBlob(ctx context.Context, session, mediaType string, body []byte) (*atcr.Blob, error) {
	var out struct {
		Blob atcr.Blob `json:"blob"`
	}
	if err := a.post(ctx, session, "com.atproto.repo.uploadBlob", mediaType, body, &out); err != nil {
		return nil, err
	}
	if want := repo.BlobCID(body).String(); out.Blob.CID != want {
		err := fmt.Errorf("it names the blob %s, must be %s", clip(out.Blob.CID), want)
		return nil, silent("of the account", "com.atproto.repo.uploadBlob", err)
	}
	return &out.Blob, nil
}

// write is one operation of applyWrites.
type write struct {
	Type       string      `json:"$type"`
	Collection string      `json:"collection"`
	RKey       string      `json:"rkey"`
	Value      atcr.Record `json:"value,omitempty"`
}

const (
	opCreate = "com.atproto.repo.applyWrites#create"
	opUpdate = "com.atproto.repo.applyWrites#update"
	opDelete = "com.atproto.repo.applyWrites#delete"
)

// applyWrites commits all writes or none, if the repository's head is still swap. PDSes from before 2024 name no
// commit in their answer; then it is empty.
func (a acting) applyWrites(ctx context.Context, session, did, swap string, writes []write) (commit, error) {
	in, err := json.Marshal(struct {
		Repo       string  `json:"repo"`
		Validate   bool    `json:"validate"`
		Writes     []write `json:"writes"`
		SwapCommit string  `json:"swapCommit,omitempty"`
	}{did, false, writes, swap})
	if err != nil {
		return commit{}, fmt.Errorf("applyWrites: %w", err)
	}
	var out struct {
		Commit commit `json:"commit"`
	}
	err = a.post(ctx, session, methodApplyWrites, "application/json", in, &out)
	return out.Commit, err
}

func clip(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return s
}
