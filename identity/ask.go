package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	indigo "github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/identity/internal/plclog"
	"github.com/atcr-dev/atcr/internal/httpx"
)

const (
	dnsTimeout    = 4 * time.Second
	handleTimeout = 6 * time.Second
	maxHandleBody = 2 << 10
)

// askHandle asks the network which DID a handle names: the configured PDS, then DNS, then HTTPS.
func (r *Resolver) askHandle(ctx context.Context, handle string) (syntax.DID, error) {
	ways := []func(context.Context, string) (syntax.DID, error){r.handleByPDS, r.handleByDNS, r.handleByHTTPS}
	var failed error
	for _, way := range ways {
		did, err := way(ctx, handle)
		if err == nil {
			r.lookups.WithLabelValues("handle", "ok").Inc()
			return did, nil
		}
		if !errors.Is(err, ErrHandleNotFound) && failed == nil {
			failed = err
		}
	}
	if failed != nil {
		r.lookups.WithLabelValues("handle", "failed").Inc()
		r.opts.Log.Debug("handle not resolved", "handle", handle, "err", failed)
		return "", fmt.Errorf("%w: %s: %w", ErrHandleResolutionFailed, handle, failed)
	}
	r.lookups.WithLabelValues("handle", "none").Inc()
	return "", fmt.Errorf("%w: %s", ErrHandleNotFound, handle)
}

func (r *Resolver) handleByPDS(ctx context.Context, handle string) (syntax.DID, error) {
	if r.opts.HandleResolverURL == "" {
		return "", ErrHandleNotFound
	}
	u := r.opts.HandleResolverURL + "/xrpc/com.atproto.identity.resolveHandle?handle=" + url.QueryEscape(handle)
	ctx, cancel := context.WithTimeout(ctx, handleTimeout)
	defer cancel()
	body, status, err := r.fetch(ctx, u, maxHandleBody)
	if err != nil {
		return "", err
	}
	switch {
	case status == http.StatusOK:
		var out struct {
			DID string `json:"did"`
		}
		if err := json.Unmarshal(body, &out); err != nil {
			return "", fmt.Errorf("resolveHandle's answer: %w", err)
		}
		return parseHandleDID(out.DID)
	case status == http.StatusBadRequest || status == http.StatusNotFound:
		return "", ErrHandleNotFound
	}
	return "", fmt.Errorf("resolveHandle at %s: status %d", r.opts.HandleResolverURL, status)
}

func (r *Resolver) handleByDNS(ctx context.Context, handle string) (syntax.DID, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	records, err := r.opts.DNS.LookupTXT(ctx, "_atproto."+handle)
	if isNXDomain(err) {
		return "", ErrHandleNotFound
	}
	if err != nil {
		return "", err
	}
	return parseTXT(records)
}

// parseTXT reads `did=…` records. Several that differ are no answer (AT Protocol handle specification, "DNS TXT Method").
func parseTXT(records []string) (syntax.DID, error) {
	var found string
	for _, s := range records {
		v, ok := strings.CutPrefix(strings.TrimSpace(s), "did=")
		switch {
		case !ok || v == found:
		case found != "":
			return "", fmt.Errorf("the TXT records name two DIDs, %q and %q", plclog.Clip(found), plclog.Clip(v))
		default:
			found = v
		}
	}
	if found == "" {
		return "", ErrHandleNotFound
	}
	return parseHandleDID(found)
}

func (r *Resolver) handleByHTTPS(ctx context.Context, handle string) (syntax.DID, error) {
	ctx, cancel := context.WithTimeout(ctx, handleTimeout)
	defer cancel()
	body, status, err := r.fetch(ctx, "https://"+handle+"/.well-known/atproto-did", maxHandleBody)
	switch {
	case isNXDomain(err):
		return "", ErrHandleNotFound
	case err != nil:
		return "", err
	case status == http.StatusNotFound || status == http.StatusGone:
		return "", ErrHandleNotFound
	case status != http.StatusOK:
		return "", fmt.Errorf("https://%s/.well-known/atproto-did: status %d", handle, status)
	}
	return parseHandleDID(string(body))
}

func parseHandleDID(s string) (syntax.DID, error) {
	did, err := syntax.ParseDID(strings.TrimSpace(s))
	if err != nil {
		return "", fmt.Errorf("the handle names %q, which is no DID", plclog.Clip(s))
	}
	return did, nil
}

// askDID fetches and reads a DID document.
func (r *Resolver) askDID(ctx context.Context, key string) (*Account, error) {
	did := syntax.DID(key)
	kind, u := did.Method(), ""
	switch kind {
	case "plc":
		if err := atcr.CheckDID(key); err != nil { // the key becomes part of a URL
			return nil, unsupported(err)
		}
		u = r.opts.PLCURL + "/" + key
	case "web":
		var err error
		if u, err = webURL(did, r.opts.TestMode); err != nil {
			return nil, unsupported(err)
		}
	default:
		return nil, unsupported(fmt.Errorf("DID method %q of %s", plclog.Clip(kind), plclog.Clip(key)))
	}
	acc, err := r.fetchDocument(ctx, did, u)
	switch {
	case err == nil:
		r.lookups.WithLabelValues(kind, "ok").Inc()
	case errors.Is(err, ErrDIDNotFound):
		r.lookups.WithLabelValues(kind, "none").Inc()
	default:
		r.lookups.WithLabelValues(kind, "failed").Inc()
		r.opts.Log.Debug("DID not resolved", "did", did, "err", err)
	}
	return acc, err
}

func (r *Resolver) fetchDocument(ctx context.Context, did syntax.DID, u string) (*Account, error) {
	body, status, err := r.fetch(ctx, u, MaxDocument)
	switch {
	case isNXDomain(err) && did.Method() == "web":
		return nil, fmt.Errorf("%w: %s: no such host", ErrDIDNotFound, did)
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrDIDResolutionFailed, did, unasked(err))
	case status == http.StatusNotFound || status == http.StatusGone: // 410 is a did:plc tombstone
		return nil, fmt.Errorf("%w: %s: status %d from %s", ErrDIDNotFound, did, status, hostOf(u))
	case status != http.StatusOK:
		return nil, fmt.Errorf("%w: %s: status %d from %s", ErrDIDResolutionFailed, did, status, hostOf(u))
	}
	acc, err := parseDocument(body, did, r.opts.TestMode)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDIDResolutionFailed, did, &unusable{err.Error(), err})
	}
	return acc, nil
}

// ParseDocument reads a DID document of at most [MaxDocument] bytes, which must be that of did. The account's Handle is
// handle.invalid: nobody was asked about it. Services whose endpoint is no http or https URL of a host are left out.
func ParseDocument(b []byte, did syntax.DID) (*Account, error) { return parseDocument(b, did, false) }

func parseDocument(b []byte, did syntax.DID, testMode bool) (*Account, error) {
	if len(b) > MaxDocument {
		return nil, fmt.Errorf("document of %d bytes, the limit is %d", len(b), MaxDocument)
	}
	var doc DIDDocument
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, fmt.Errorf("reading the document: %w", err)
	}
	if doc.DID != did && !(testMode && sameDID(doc.DID, did, true)) {
		return nil, fmt.Errorf("the document's id is %q: use that DID if it is what you mean", plclog.Clip(string(doc.DID)))
	}
	acc := indigo.ParseIdentity(&doc)
	for id, s := range acc.Services {
		if u, err := url.Parse(s.URL); err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
			delete(acc.Services, id)
		}
	}
	return &acc, nil
}

// fetch returns a body of at most n bytes, and the status. The context bounds how long it takes: see memo.
func (r *Resolver) fetch(ctx context.Context, u string, n int64) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := r.opts.HTTP.Do(req)
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		httpx.Drain(resp)
		return nil, resp.StatusCode, nil
	}
	b, err := httpx.ReadLimited(resp, n)
	return b, resp.StatusCode, err
}

func isNXDomain(err error) bool {
	var d *net.DNSError
	return errors.As(err, &d) && d.IsNotFound
}

func hostOf(u string) string {
	p, err := url.Parse(u)
	if err != nil {
		return "?"
	}
	return p.Host
}
