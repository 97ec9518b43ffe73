package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/api/agnostic"
	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/api/bsky"
	"github.com/bluesky-social/indigo/atproto/atclient"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/repo"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/tools"
	"github.com/atcr-dev/atcr/repo"
)

// goat is a client made of indigo's packages alone, as the goat command is.
type goat struct {
	*testing.T
	*atclient.APIClient
	n       *realtest.Net
	did     string
	answers bytes.Buffer // {nsid, output} a line, for the lexicons
}

// ask GETs a method as it is, and keeps the answer to be held against its lexicon.
func (g *goat) ask(nsid string, query url.Values) map[string]any {
	g.Helper()
	var raw []byte
	if err := xrpc(g.T, g.Host, nsid, query, &raw); err != nil {
		g.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		g.Fatal(err)
	}
	fmt.Fprintf(&g.answers, "{\"nsid\":%q,\"output\":%s}\n", nsid, raw)
	return out
}

// post calls a method with a token of the captain.
func (g *goat) post(nsid, kind string, body []byte) []byte {
	g.Helper()
	req, err := http.NewRequestWithContext(g.Context(), http.MethodPost, g.Host+"/xrpc/"+nsid, bytes.NewReader(body))
	if err != nil {
		g.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Authorization", "Bearer "+g.n.ServiceAuth(g.T, "alice", g.did, nsid))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		g.Fatalf("%s: %s %s, %v", nsid, resp.Status, raw, err)
	}
	fmt.Fprintf(&g.answers, "{\"nsid\":%q,\"output\":%s}\n", nsid, raw)
	return raw
}

// TestReadByOthers: a hold is read whole by a client made of indigo's packages, and each of its com.atproto answers is what the
// protocol's lexicon says.
func TestReadByOthers(t *testing.T) {
	t.Parallel()
	realtest.Need(t, tools.ATProto)
	n := realtest.Network(t, realtest.NetworkOptions{})
	h := newRunningHold(t, n.PLC, n.Account("alice").DID)
	address := "http://" + h.host
	h.cfg.PublicURL = "http://hold.test" // a name that can be a handle
	h.start()
	g := &goat{T: t, APIClient: atclient.NewAPIClient(address), n: n, did: h.server.DID()}
	image, layers := []byte("an image"), 130
	blob := g.fill(h, image, layers)
	g.lexicons()
	g.readRecords(layers)
	g.readSync(h, blob, image)
}

// fill makes what is read: a blob by the captain, a record that names it; more than a page of records; one that the captain
// deletes. It returns the blob's CID.
func (g *goat) fill(h *runningHold, image []byte, layers int) string {
	t, did := g.T, g.did
	t.Helper()
	var uploaded struct {
		Blob struct {
			Ref struct {
				Link string `json:"$link"`
			}
		}
	}
	if err := json.Unmarshal(g.post("com.atproto.repo.uploadBlob", "image/png", image), &uploaded); err != nil {
		t.Fatal(err)
	}
	h.offline(func(r *repo.Repo) {
		h.cfg.Public, h.cfg.Profile = true, hold.Profile{DisplayName: "Harbour", Description: "of friends"}
		ws := []repo.Write{withBlob(t, put(t, atcr.NSIDBskyProfile, "self", nil), "avatar", image)}
		for i := range layers {
			ws = append(ws, put(t, atcr.NSIDLayer, fmt.Sprintf("3l%011d", i), fmt.Append(nil, i)))
		}
		ws = append(ws, put(t, atcr.NSIDCrew, "gone", []byte("x")))
		apply(t, r, ws)
	})
	g.post("com.atproto.repo.deleteRecord", "application/json",
		fmt.Appendf(nil, `{"repo":%q,"collection":%q,"rkey":"gone"}`, did, atcr.NSIDCrew))

	return uploaded.Blob.Ref.Link
}

// lexicons holds each JSON answer, those to fill among them, against the protocol's lexicons.
func (g *goat) lexicons() {
	t, did := g.T, g.did
	t.Helper()
	account := url.Values{"did": {did}}
	captain := url.Values{"repo": {did}, "collection": {atcr.NSIDCaptain}, "rkey": {"self"}}
	for nsid, query := range map[string]url.Values{
		"com.atproto.server.describeServer":  nil,
		"com.atproto.repo.describeRepo":      {"repo": {did}},
		"com.atproto.repo.getRecord":         captain,
		"com.atproto.repo.listRecords":       {"repo": {did}, "collection": {atcr.NSIDLayer}, "limit": {"10"}},
		"com.atproto.sync.listRepos":         nil,
		"com.atproto.sync.getRepoStatus":     account,
		"com.atproto.sync.getLatestCommit":   account,
		"com.atproto.sync.listBlobs":         account,
		"com.atproto.identity.resolveHandle": {"handle": {"hold.test"}},
		"app.bsky.actor.getProfile":          {"actor": {"hold.test"}},
		"app.bsky.actor.getProfiles":         {"actors": {did, "elsewhere.test"}},
	} {
		g.ask(nsid, query)
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bluesky-social/indigo").Output()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&g.answers, `{"nsid":"com.atproto.sync.getLatestCommit","output":{"cid":"no cid"}}`) // the test of the test
	seen := askOracle(t, &g.answers, "outputs", filepath.Join(strings.TrimSpace(string(out)), "lexicons"))
	if seen.Checked != 13 || len(seen.Wrong) != 1 || !strings.Contains(seen.Wrong[0], "getLatestCommit") {
		t.Errorf("lexicons: %+v", seen)
	}
}

// readRecords reads what lies in the repository, by com.atproto.repo.
func (g *goat) readRecords(layers int) {
	t, ctx, did := g.T, g.Context(), g.did
	t.Helper()
	described, err := comatproto.RepoDescribeRepo(ctx, g, did)
	if err != nil || described.Did != did || described.Handle != "hold.test" || len(described.Collections) != 3 {
		t.Errorf("describeRepo: %+v, %v", described, err)
	}
	if who, err := comatproto.IdentityResolveHandle(ctx, g, "hold.test"); err != nil || who.Did != did {
		t.Errorf("resolveHandle: %+v, %v", who, err)
	}
	if p, err := bsky.ActorGetProfile(ctx, g, did); err != nil || p.Did != did || p.Handle != "hold.test" || p.DisplayName == nil ||
		*p.DisplayName != "Harbour" || p.Avatar == nil {
		t.Errorf("getProfile: %+v, %v", p, err)
	}
	if p, err := bsky.ActorGetProfiles(ctx, g, []string{did, "elsewhere.test"}); err != nil || len(p.Profiles) != 1 ||
		p.Profiles[0].Did != did {
		t.Errorf("getProfiles: %+v, %v", p, err)
	}
	if rec, err := agnostic.RepoGetRecord(ctx, g, "", atcr.NSIDCaptain, did, "self"); err != nil || rec.Cid == nil ||
		rec.Value == nil || !strings.HasSuffix(rec.Uri, atcr.NSIDCaptain+"/self") {
		t.Errorf("getRecord: %+v, %v", rec, err)
	}
	if _, err := agnostic.RepoGetRecord(ctx, g, "", atcr.NSIDCrew, did, "gone"); errorName(err) != "RecordNotFound" {
		t.Errorf("a deleted record: %v", err)
	}
	listed := map[string]bool{}
	for cursor := ""; ; {
		page, err := agnostic.RepoListRecords(ctx, g, atcr.NSIDLayer, cursor, 50, did, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			listed[r.Uri] = true
		}
		if page.Cursor == nil || *page.Cursor == "" || len(page.Records) == 0 {
			break
		}
		cursor = *page.Cursor
	}
	if len(listed) != layers {
		t.Errorf("listRecords gave %d of %d", len(listed), layers)
	}
}

// readSync reads the repository as mirrors do, by com.atproto.sync.
func (g *goat) readSync(h *runningHold, blob string, image []byte) {
	t, ctx, did := g.T, g.Context(), g.did
	t.Helper()
	latest, err := comatproto.SyncGetLatestCommit(ctx, g, did)
	if err != nil {
		t.Fatal(err)
	}
	status, err := comatproto.SyncGetRepoStatus(ctx, g, did)
	if err != nil || !status.Active || status.Rev == nil || *status.Rev != latest.Rev {
		t.Errorf("getRepoStatus: %+v, %v; the commit is %+v", status, err, latest)
	}
	repos, err := comatproto.SyncListRepos(ctx, g, "", 100)
	if err != nil || len(repos.Repos) != 1 || repos.Repos[0].Did != did || repos.Repos[0].Head != latest.Cid ||
		repos.Repos[0].Rev != latest.Rev {
		t.Errorf("listRepos: %+v, %v", repos, err)
	}
	var key atcrypto.PublicKey
	h.read(func(r *repo.Repo) { key = r.PublicKey() })
	car, err := comatproto.SyncGetRepo(ctx, g, did, "")
	if err != nil {
		t.Fatal(err)
	}
	commit, whole, err := indigo.LoadRepoFromCAR(ctx, bytes.NewReader(car))
	if err != nil || commit.Rev != latest.Rev || commit.DID != did {
		t.Errorf("getRepo: %+v, %v", commit, err)
	} else if err := commit.VerifySignature(key); err != nil {
		t.Errorf("getRepo: %v", err)
	} else if _, _, err := whole.GetRecordBytes(ctx, atcr.NSIDCaptain, "self"); err != nil {
		t.Errorf("getRepo without the captain: %v", err)
	}
	if later, err := comatproto.SyncGetRepo(ctx, g, did, latest.Rev); err != nil || len(later) >= len(car)/2 {
		t.Errorf("getRepo since now: %d bytes of %d, %v", len(later), len(car), err)
	}
	proof, err := comatproto.SyncGetRecord(ctx, g, atcr.NSIDCaptain, did, "self")
	if err != nil {
		t.Fatal(err)
	}
	if commit, _, err := indigo.LoadRepoFromCAR(ctx, bytes.NewReader(proof)); err != nil || commit.VerifySignature(key) != nil ||
		commit.Rev != latest.Rev {
		t.Errorf("getRecord: %+v, %v", commit, err)
	}
	blocks, err := comatproto.SyncGetBlocks(ctx, g, []string{latest.Cid, commit.Data.String()}, did)
	if err != nil || !bytes.Contains(blocks, []byte(did)) {
		t.Errorf("getBlocks: %d bytes, %v", len(blocks), err)
	}
	blobs, err := comatproto.SyncListBlobs(ctx, g, "", did, 100, "")
	if err != nil || len(blobs.Cids) != 1 || blobs.Cids[0] != blob {
		t.Errorf("listBlobs: %+v, %v; %s was uploaded", blobs, err, blob)
	}
	if got, err := comatproto.SyncGetBlob(ctx, g, blob, did); err != nil || !bytes.Equal(got, image) {
		t.Errorf("getBlob: %q, %v", got, err)
	}
	events := realtest.Subscribe(t, g.Host, 0)
	if e, err := events.Next(relayed); err != nil || e.DID != did {
		t.Errorf("subscribeRepos: %+v, %v", e, err)
	}

	const other = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	if _, err := comatproto.SyncGetRepo(ctx, g, other, ""); errorName(err) != "RepoNotFound" {
		t.Errorf("getRepo of another: %v", err)
	}
	if _, err := comatproto.SyncGetLatestCommit(ctx, g, other); errorName(err) != "RepoNotFound" {
		t.Errorf("getLatestCommit of another: %v", err)
	}
}

// errorName is the XRPC error in an answer.
func errorName(err error) string {
	var e *atclient.APIError
	if errors.As(err, &e) {
		return e.Name
	}
	return ""
}
