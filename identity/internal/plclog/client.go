package plclog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// Client speaks to a did:plc directory. The zero value is the public one, asked by a client with the address guard.
// It is safe for concurrent use and must not be copied after use.
type Client struct {
	// URL of the directory; empty is https://plc.directory.
	URL string
	// HTTP makes the requests; nil is one with the address guard.
	HTTP *http.Client

	once sync.Once
	own  *http.Client
}

func (p *Client) url(did syntax.DID) (string, error) {
	if did.Method() != "plc" {
		return "", fmt.Errorf("%s is no did:plc", did)
	}
	if err := atcr.CheckDID(did.String()); err != nil {
		return "", err
	}
	base := strings.TrimRight(p.URL, "/")
	if base == "" {
		base = DefaultURL
	}
	return base + "/" + did.String(), nil
}

func (p *Client) client() *http.Client {
	if p.HTTP != nil {
		return p.HTTP
	}
	p.once.Do(func() { p.own = httpx.NewClient(httpx.ClientOptions{PublicBodies: true, UserAgent: "atcr"}) })
	return p.own
}

// Log fetches the audit log of a DID past all caches, and verifies it. Errors: ErrUnavailable, ErrForbidden, ErrNotFound, ErrLog.
func (p *Client) Log(ctx context.Context, did syntax.DID) (*Log, error) {
	u, err := p.url(did)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u+"/log/audit", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Cache-Control", "no-cache")
	resp, err := p.client().Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: log of %s: %w", unreached(err), did, err)
	}
	if resp.StatusCode != http.StatusOK {
		httpx.Drain(resp)
		if resp.StatusCode == http.StatusNotFound {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, did)
		}
		return nil, fmt.Errorf("%w: log of %s: status %d", ErrUnavailable, did, resp.StatusCode)
	}
	b, err := httpx.ReadLimited(resp, MaxLog)
	switch {
	case errors.Is(err, httpx.ErrTooLarge):
		return nil, fmt.Errorf("%w: %s: %w", ErrLog, did, err)
	case err != nil:
		return nil, fmt.Errorf("%w: log of %s: %w", ErrUnavailable, did, err)
	}
	return ParseLog(did, b)
}

// Submit sends a signed operation. Errors: ErrRefused with the directory's reason, also for one over [MaxOperation], which is not
// sent; ErrUnavailable, after which the operation may have been taken nevertheless.
func (p *Client) Submit(ctx context.Context, did syntax.DID, op didplc.Operation) error {
	u, err := p.url(did)
	if err != nil {
		return err
	}
	body, err := operationJSON(op)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.client().Do(req)
	if err != nil {
		return fmt.Errorf("%w: submitting to %s: %w", unreached(err), did, err)
	}
	if resp.StatusCode == http.StatusOK {
		httpx.Drain(resp)
		return nil
	}
	reason, _ := httpx.ReadLimited(resp, 4<<10)
	if s := resp.StatusCode; s >= 500 || s == http.StatusTooManyRequests || s == http.StatusRequestTimeout {
		return fmt.Errorf("%w: submitting to %s: status %d", ErrUnavailable, did, s)
	}
	return fmt.Errorf("%w: %s: status %d: %s", ErrRefused, did, resp.StatusCode, Clip(strings.TrimSpace(string(reason))))
}

// operationJSON is the operation as it is sent, if it isn't too long.
func operationJSON(op didplc.Operation) ([]byte, error) {
	b, err := json.Marshal(op.AsOpEnum())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if len(b) > MaxOperation {
		return nil, fmt.Errorf("%w: it has %d bytes, the directory takes %d: "+
			"remove services, aliases or keys that are no longer used", ErrRefused, len(b), MaxOperation)
	}
	return b, nil
}

// unreached returns the kind of a request that failed: a guard that refuses the address will do so again.
func unreached(err error) error {
	if errors.Is(err, httpx.ErrForbiddenAddress) {
		return ErrForbidden
	}
	return ErrUnavailable
}
