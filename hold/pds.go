package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/keylock"
	"github.com/atcr-dev/atcr/internal/oci"
	"github.com/atcr-dev/atcr/repo"
)

// Limits of what a user's PDS is asked for.
const maxRecordAnswer = 2 << 20

// errNoRecord: the owner's PDS answered, and has no such record.
var errNoRecord = errors.New("no such record at the owner's PDS")

// manifestRecord is an io.atcr.manifest at its owner's PDS.
type manifestRecord struct {
	atcr.Manifest
	URI string
}

// pdses asks users' PDSes.
type pdses struct {
	dir   identity.Directory
	http  *http.Client
	clock func() time.Time
	log   *slog.Logger

	searches  chan struct{} // one for each that runs
	searching keylock.Locks // by DID
}

func newPDSes(dir identity.Directory, client *http.Client, clock func() time.Time, log *slog.Logger) *pdses {
	return &pdses{dir: dir, http: client, clock: clock, log: log, searches: make(chan struct{}, maxSearches)}
}

// pds is one user's PDS.
type pds struct {
	by  *pdses
	did string
	url string
}

// of finds a user's PDS. Errors: AccountNotReachable.
func (a *pdses) of(ctx context.Context, did string) (*pds, error) {
	id, err := syntax.ParseDID(did)
	if err != nil {
		return nil, invalid("userDid %q is no DID", clip(did))
	}
	who, err := a.dir.LookupDID(ctx, id)
	if errors.Is(err, identity.ErrDIDNotFound) {
		return nil, fail(http.StatusBadRequest, "IdentityNotFound", "%s does not exist", did)
	}
	if why, never := identity.Unusable(err); never {
		return nil, fail(http.StatusBadRequest, "IdentityNotFound", "%s can't be used: %s", did, clip(why))
	}
	if err != nil {
		// Why stays here: it tells what names mean inside this network.
		a.log.Info("an identity can't be resolved", "did", did, "error", err)
		return nil, unavailable("AccountNotReachable", "the identity %s can't be resolved now", did)
	}
	u := strings.TrimRight(who.PDSEndpoint(), "/")
	if u == "" {
		return nil, fail(http.StatusBadRequest, "IdentityNotFound", "%s names no PDS", did)
	}
	return &pds{by: a, did: did, url: u}, nil
}

func (p *pds) get(ctx context.Context, method string, query url.Values, limit int64) ([]byte, error) {
	ctx = httpx.WithShare(ctx, p.did)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/xrpc/"+method+"?"+query.Encode(), nil)
	if err != nil {
		return nil, unavailable("PDSUnavailable", "the PDS of %s has no usable address", p.did)
	}
	resp, err := p.by.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, p.silent(method, err)
	}
	defer httpx.Drain(resp)
	switch {
	case resp.StatusCode == http.StatusOK:
		b, err := httpx.ReadLimited(resp, limit)
		if err != nil {
			return nil, p.silent(method, err)
		}
		return b, nil
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusBadRequest:
		b, _ := httpx.ReadLimited(resp, 64<<10)
		return nil, notThere(p, method, resp.StatusCode, b)
	}
	e := unavailable("PDSUnavailable", "%s of %s answers %d", method, p.url, resp.StatusCode).(*xrpcError)
	if d, ok := httpx.RetryAfter(resp.Header, p.by.clock()); ok {
		e.retryAfter = d
	}
	return nil, e
}

// silent is the answer for a PDS that gave none that can be read. Why stays in the log: it may name addresses.
func (p *pds) silent(method string, err error) error {
	p.by.log.Info("a PDS does not answer as it should", "did", p.did, "method", method, "error", err)
	e := unavailable("PDSUnavailable", "the PDS of %s (%s) gives no answer to %s that can be read", p.did, p.url, method).(*xrpcError)
	e.cause = err
	return e
}

// notThere tells a PDS that has no such record from one that has trouble: only a named error counts as "not there", a
// proxy's bare 404 doesn't.
func notThere(p *pds, method string, status int, body []byte) error {
	var e struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(body, &e)
	switch {
	case e.Error == "RecordNotFound", e.Error == "InvalidRequest" && strings.HasPrefix(e.Message, "Could not locate record"),
		e.Error == "InvalidRequest" && strings.HasPrefix(e.Message, "Blob not found"), e.Error == "BlobNotFound":
		return errNoRecord
	case e.Error == "RepoNotFound", e.Error == "RepoTakendown", e.Error == "RepoDeactivated",
		e.Error == "InvalidRequest" && strings.HasPrefix(e.Message, "Could not find repo"):
		return unavailable("PDSUnavailable", "the PDS %s says %s: %s", p.url, clip(e.Error), clip(e.Message))
	}
	return unavailable("PDSUnavailable", "%s of %s answers %d %s", method, p.url, status, clip(e.Error))
}

// manifest finds the record of a manifest in a repository: at the two keys it is written under, else, when the caller says
// so, by going through the collection. Errors: errNoRecord, PDSUnavailable.
func (p *pds) manifest(ctx context.Context, repository string, d digest.Digest, search bool) (*manifestRecord, error) {
	for _, rkey := range manifestKeys(repository, d) {
		m, err := p.record(ctx, rkey)
		if errors.Is(err, errNoRecord) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m.Repository == repository && m.OCIDigest() == d {
			return m, nil
		}
	}
	if !search {
		return nil, errNoRecord
	}
	return p.search(ctx, repository, d)
}

// manifestKeys are the record keys that a manifest is written under.
func manifestKeys(repository string, d digest.Digest) []string {
	return []string{atcr.ManifestRKey(d), atcr.ManifestRKeyIn(repository, d)}
}

func (p *pds) manifestURI(rkey string) string {
	return "at://" + p.did + "/" + atcr.NSIDManifest + "/" + rkey
}

func (p *pds) record(ctx context.Context, rkey string) (*manifestRecord, error) {
	b, err := p.get(ctx, "com.atproto.repo.getRecord", url.Values{"repo": {p.did}, "collection": {atcr.NSIDManifest}, "rkey": {rkey}},
		maxRecordAnswer)
	if err != nil {
		return nil, err
	}
	var out struct {
		Value json.RawMessage `json:"value"`
	}
	m := &manifestRecord{URI: p.manifestURI(rkey)}
	if err := json.Unmarshal(b, &out); err != nil || json.Unmarshal(out.Value, &m.Manifest) != nil {
		return nil, fail(http.StatusBadRequest, "InvalidManifest", "the record %s can't be read", m.URI)
	}
	return m, nil
}

// body fetches the manifest's bytes and checks them twice: against the blob's CID and against the digest.
func (p *pds) body(ctx context.Context, m *manifestRecord) (*oci.Manifest, error) {
	bad := func(format string, args ...any) error {
		return fail(http.StatusBadRequest, "InvalidManifest", "record %s: %s", m.URI, fmt.Sprintf(format, args...))
	}
	if m.ManifestBlob == nil {
		return nil, bad("it has no manifestBlob; push the manifest again")
	}
	cid, err := repo.ParseCID(m.ManifestBlob.CID)
	if err != nil || !cid.IsBlob() {
		return nil, bad("manifestBlob is no blob")
	}
	b, err := p.get(ctx, "com.atproto.sync.getBlob", url.Values{"did": {p.did}, "cid": {cid.String()}}, oci.MaxManifestSize)
	if errors.Is(err, errNoRecord) {
		return nil, bad("its manifestBlob is not at the PDS")
	}
	if err != nil {
		return nil, err
	}
	if repo.BlobCID(b) != cid {
		return nil, bad("the PDS gave other bytes than manifestBlob names")
	}
	man, err := oci.ParseManifestAs(m.MediaType, b, m.OCIDigest())
	if err != nil {
		return nil, bad("%v", err)
	}
	return man, nil
}

func clip(text string) string {
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	return strings.ToValidUTF8(text, "?")
}
