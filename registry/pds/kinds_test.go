package pds_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
)

// Whatever a PDS or a hold says, what comes of it is an error of the registry with a code of its own: never one that would be a 500,
// which is logged as a fault of this server (A20).
func TestEveryAnswerHasAKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS, verifying(pds.VerifyAlways))
	img := newImage(t, "one", nil)
	w.push("app", img, "v1")
	w.settled()
	answers := []struct {
		status int
		body   string
	}{
		{200, ""}, {200, "{}"}, {200, "no JSON"}, {200, `{"cid":7,"records":[{}],"value":"x"}`}, {302, ""},
		{400, `{"error":"InvalidRequest"}`}, {400, `{"error":"RepoTakendown"}`}, {400, `{"error":"InvalidSwap"}`}, {401, ""}, {403, "{}"},
		{404, ""}, {404, `{"error":"RecordNotFound"}`}, {404, `{"error":"MethodNotImplemented"}`}, {429, ""}, {500, ""},
		{507, `{"error":"InsufficientStorage"}`},
	}
	servers := []struct {
		proxy *realtest.FaultProxy
		paths []string
	}{
		{w.pdsProxy, []string{"sync.getLatestCommit", "repo.listRecords", "sync.getBlob", "sync.getRecord", "repo.getRecord"}},
		{w.holdProxy, []string{"repo.getRecord", "repo.listRecords", "sync.getBlob"}},
	}
	table := w.table() // opens the database: once
	for i, s := range servers {
		for _, path := range s.paths {
			for _, a := range answers {
				what := fmt.Sprintf("server %d: %s answers %d %s", i, path, a.status, a.body)
				w.forget()
				_, err := table.Exec(`delete from pds_bytes`)
				must(t, err)
				s.proxy.Inject(realtest.Fault{Kind: realtest.Fail, Path: path, Times: -1, Status: a.status, Body: a.body, Optional: true})
				for _, as := range []string{"", "alice"} {
					for name, err := range reads(t.Context(), w.repo(as, "alice", "app"), img) {
						var e *registry.Error
						if err != nil && (!errors.As(err, &e) || e.Status == http.StatusInternalServerError) {
							t.Errorf("%s: %s of %q: %v", what, name, as, err)
						}
					}
				}
				s.proxy.Clear()
			}
		}
	}
}

// reads does what pulls do, and returns what came of each.
func reads(ctx context.Context, r registry.Repository, img image) map[string]error {
	out := map[string]error{}
	_, out["manifest by tag"] = r.Manifest(ctx, registry.Ref{Tag: "v1"})
	_, out["manifest by digest"] = r.Manifest(ctx, registry.Ref{Digest: img.manifest.Digest})
	_, out["tags"] = collectTags(ctx, r)
	b, err := r.Blob(ctx, img.manifest.Layers[0].Digest)
	out["blob"] = err
	if err == nil && b.Open != nil {
		body, err := b.Open(ctx, registry.Range{})
		if err == nil {
			_, err = io.Copy(io.Discard, body)
			body.Close()
		}
		out["blob's bytes"] = err
	}
	return out
}

// The same for pushes and deletes.
func TestEveryAnswerToAWriteHasAKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	old := newImage(t, "old", nil)
	w.push("app", old, "v1")
	w.settled()
	n := 0
	for i, s := range []struct {
		proxy *realtest.FaultProxy
		paths []string
	}{
		{w.pdsProxy, []string{"uploadBlob", "applyWrites", "getServiceAuth", "getLatestCommit"}},
		{w.holdProxy, []string{"initiateUpload", "uploadPart", "completeUpload", "checkBlobs", "getQuota", "repo.getRecord"}},
	} {
		for _, path := range s.paths {
			for _, a := range []struct {
				status int
				body   string
			}{
				{200, "no JSON"}, {200, `{"commit":7,"blob":{},"token":"","uploadId":"","etag":"","blobs":[{}]}`}, {302, ""},
				{400, `{"error":"RepoTakendown"}`}, {400, `{"error":"InvalidSwap"}`}, {403, ""}, {404, ""}, {413, ""},
				{507, `{"error":"InsufficientStorage"}`},
			} {
				n++
				what := fmt.Sprintf("server %d: %s answers %d %s", i, path, a.status, a.body)
				w.restart()
				s.proxy.Inject(realtest.Fault{Kind: realtest.Fail, Path: path, Times: -1, Status: a.status, Body: a.body, Optional: true})
				r := w.repo("alice", "alice", "app")
				for name, err := range map[string]error{
					"push":       push(t.Context(), r, newImage(t, fmt.Sprint("new ", n), nil), "v2"),
					"delete tag": r.DeleteTag(t.Context(), "v2"),
					"delete":     r.DeleteManifest(t.Context(), old.manifest.Digest),
				} {
					var e *registry.Error
					if err != nil && (!errors.As(err, &e) || e.Status == http.StatusInternalServerError) {
						t.Errorf("%s: %s: %v", what, name, err)
					}
				}
				s.proxy.Clear()
			}
		}
	}
}
