package pds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/registry"
)

// canned answers every request with one response.
type canned struct {
	status int
	header http.Header
	body   []byte
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: c.status, Header: c.header, Body: io.NopCloser(bytes.NewReader(c.body)), ContentLength: -1, Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}, nil
}

func (c canned) pds() pds {
	return servers{http: &http.Client{Transport: c}, clock: time.Now}.of(owner{DID: fuzzOwner, PDS: "https://pds.example"})
}

const fuzzOwner = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

// FuzzPDSAnswers: whatever a PDS answers, a caller gets values within the limits or an error with a kind, never one that looks like a
// fault of this server.
func FuzzPDSAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"records":[{"uri":"at://` + fuzzOwner + `/io.atcr.tag/a","cid":"x","value":{}}],"cursor":"a"}`, `{"cid":"bafy","rev":"3k"}`,
		`{"error":"InvalidRequest","message":"Could not locate record"}`, `{"error":"RepoTakendown"}`, `{"error":"InvalidSwap"}`, `{`, `[]`,
		`{"records":[null,null],"cursor":""}`, `{"records":null,"cursor":1}`, strings.Repeat(`{"records":[`, 50), `{"error":{"a":1}}`, "",
	} {
		for _, status := range []int{200, 400, 401, 403, 404, 413, 429, 500, 502} {
			f.Add(status, "", []byte(seed))
		}
	}
	f.Add(429, "10", []byte(`{}`))
	f.Add(429, "-1", []byte(`{}`))
	f.Add(503, "Wed, 21 Oct 2099 07:28:00 GMT", []byte(`{}`))
	f.Fuzz(func(t *testing.T, status int, retryAfter string, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		p := canned{status, http.Header{"Retry-After": {retryAfter}, "Ratelimit-Reset": {retryAfter}}, body}.pds()
		check := func(what string, err error) {
			t.Helper()
			if err == nil {
				if status != 200 {
					t.Fatalf("%s takes a status of %d", what, status)
				}
				return
			}
			var e *registry.Error
			if !errors.As(err, &e) && !errors.Is(err, errNoRecord) && !errors.Is(err, errRepoGone) && !errors.Is(err, errInvalidSwap) &&
				!errors.Is(err, errTooLarge) {
				t.Fatalf("%s: error %v without a kind", what, err)
			}
			if e != nil && (e.RetryAfter < 0 || e.RetryAfter > 25*time.Hour || len(e.Message) > 2000) {
				t.Fatalf("%s: Retry-After %s, %d bytes of message", what, e.RetryAfter, len(e.Message))
			}
		}
		c, err := p.latestCommit(context.Background(), fuzzOwner)
		check("getLatestCommit", err)
		if err == nil && (c.CID == "" || c.Rev == "") {
			t.Fatalf("a commit without CID or revision: %+v", c)
		}
		_, err = p.getRecord(context.Background(), fuzzOwner, atcr.NSIDTag, "a")
		check("getRecord", err)
	})
}

// FuzzRebuilds: what is rebuilt of a record of the oldest form is JSON, and little.
func FuzzRebuilds(f *testing.F) {
	d := digest.FromString("x").String()
	f.Add([]byte(`{"mediaType":"a/b","schemaVersion":2,"config":{"mediaType":"a/b","size":1,"digest":"` + d + `"},"layers":[]}`))
	f.Add([]byte(`{"manifests":[{"mediaType":"a/b","size":1,"digest":"` + d + `","platform":{"os":"linux","architecture":"amd64"}}]}`))
	f.Add([]byte(`{"manifests":[null]}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, value []byte) {
		all := rebuilds(value)
		if len(all) > 16 {
			t.Fatalf("%d candidates", len(all))
		}
		for _, raw := range all {
			if !json.Valid(raw) {
				t.Fatalf("%q is no JSON", raw)
			}
		}
	})
}
