package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// Limits of the did:plc directory.
const (
	// MaxPLCOperation is how long one operation may be as JSON, in bytes. The public directory refuses longer ones; we don't send them.
	MaxPLCOperation = 7500
	// MaxPLCLog is how long a DID's audit log may be, in bytes.
	MaxPLCLog = 4 << 20
)

// Errors of did:plc.
var (
	// ErrPLCUnavailable: the directory can't be reached or fails; trying again later helps.
	ErrPLCUnavailable = errors.New("PLC directory unavailable")
	// ErrPLCNotFound: the directory has no such DID.
	ErrPLCNotFound = errors.New("DID is not in the PLC directory")
	// ErrPLCLog: what the directory showed is not this DID's log: another's, forked, or badly signed.
	ErrPLCLog = errors.New("PLC log refused")
	// ErrPLCTombstone: the DID was given up.
	ErrPLCTombstone = errors.New("DID is a tombstone")
	// ErrPLCRefused: an operation that the directory or we refuse, with the reason.
	ErrPLCRefused = errors.New("PLC operation refused")
	// ErrPLCRace: others changed the DID each time we tried to.
	ErrPLCRace = errors.New("PLC log keeps changing")
	// ErrNoRotationKey: our rotation key is missing, or not in the DID's list.
	ErrNoRotationKey = errors.New("no rotation key that may change this DID")
)

// PLCLog is a DID's audit log, verified: every signature, link and nullification holds. It does not change.
type PLCLog struct {
	DID     syntax.DID
	Entries []didplc.LogEntry
}

// ParsePLCLog reads and verifies the audit log of did, as the directory's GET /DID/log/audit answers it. Errors: ErrPLCLog with the reason.
func ParsePLCLog(did syntax.DID, b []byte) (*PLCLog, error) {
	if len(b) > MaxPLCLog {
		return nil, fmt.Errorf("%w: %s: %d bytes, the limit is %d", ErrPLCLog, did, len(b), MaxPLCLog)
	}
	var entries []didplc.LogEntry
	if err := json.Unmarshal(b, &entries); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrPLCLog, did, err)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: %s: it is empty", ErrPLCLog, did)
	}
	for _, e := range entries {
		if e.DID != did.String() {
			return nil, fmt.Errorf("%w: asked for %s, the directory shows that of %s", ErrPLCLog, did, clip(e.DID))
		}
		if e.Operation.AsOperation() == nil {
			return nil, fmt.Errorf("%w: %s: an entry without an operation", ErrPLCLog, did)
		}
	}
	if err := didplc.VerifyOpLog(entries); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrPLCLog, did, err)
	}
	return &PLCLog{did, entries}, nil
}

// Head is the newest operation that counts.
func (l *PLCLog) Head() *didplc.LogEntry {
	for i := len(l.Entries) - 1; i > 0; i-- {
		if !l.Entries[i].Nullified {
			return &l.Entries[i]
		}
	}
	return &l.Entries[0]
}

// Find answers the entry of an operation, or nil.
func (l *PLCLog) Find(cid string) *didplc.LogEntry {
	for i := range l.Entries {
		if l.Entries[i].CID == cid {
			return &l.Entries[i]
		}
	}
	return nil
}

// Tombstoned reports whether the DID was given up.
func (l *PLCLog) Tombstoned() bool { return l.Head().Operation.Tombstone != nil }

// continues reports why l does not go on from an older look at the same log, or nil.
func (l *PLCLog) continues(old *PLCLog) error {
	for i, e := range old.Entries {
		if i >= len(l.Entries) {
			return fmt.Errorf("%w: %s: the directory shows %d operations, before it showed %d", ErrPLCLog, l.DID, len(l.Entries), len(old.Entries))
		}
		if now := l.Entries[i]; now.CID != e.CID {
			return fmt.Errorf("%w: %s is forked: operation %d is %s, before it was %s", ErrPLCLog, l.DID, i+1, now.CID, e.CID)
		} else if e.Nullified && !now.Nullified {
			return fmt.Errorf("%w: %s is forked: operation %d, %s, counts again", ErrPLCLog, l.DID, i+1, e.CID)
		}
	}
	return nil
}

// check reports why the directory would refuse an operation after this log, or nil.
func (l *PLCLog) check(op didplc.Operation, now time.Time) error {
	ctx, store := context.Background(), didplc.NewMemOpStore()
	for i := range l.Entries {
		e := &l.Entries[i]
		at, err := syntax.ParseDatetime(e.CreatedAt)
		if err != nil {
			return err
		}
		if !at.Time().Before(now) { // the directory's clock is ahead of ours
			now = at.Time().Add(time.Millisecond)
		}
		prepared, err := didplc.VerifyOperation(ctx, store, l.DID.String(), e.Operation.AsOperation(), at.Time())
		if err != nil {
			return err
		}
		if err := store.CommitOperations(ctx, []*didplc.PreparedOperation{prepared}); err != nil {
			return err
		}
	}
	if _, err := didplc.VerifyOperation(ctx, store, l.DID.String(), op, now); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPLCRefused, l.DID, err)
	}
	return nil
}

// plcState is what an operation says of the DID. Its slices and maps are the caller's own.
func plcState(e *didplc.LogEntry) (didplc.RegularOp, error) {
	var s didplc.RegularOp
	switch op := e.Operation; {
	case op.Regular != nil:
		s = *op.Regular
	case op.Legacy != nil:
		s = op.Legacy.RegularOp()
	default:
		return s, fmt.Errorf("%w: %s", ErrPLCTombstone, e.DID)
	}
	s.Type, s.Prev, s.Sig = "plc_operation", nil, nil
	s.RotationKeys = append([]string{}, s.RotationKeys...)
	s.AlsoKnownAs = append([]string{}, s.AlsoKnownAs...)
	methods, services := map[string]string{}, map[string]didplc.OpService{}
	for name, key := range s.VerificationMethods {
		methods[name] = key
	}
	for name, service := range s.Services {
		services[name] = service
	}
	s.VerificationMethods, s.Services = methods, services
	return s, nil
}

// PLC speaks to a did:plc directory. The zero value is the public one, asked by a client with the address guard.
// It is safe for concurrent use and must not be copied after use.
type PLC struct {
	// URL of the directory; empty is [DefaultPLCURL].
	URL string
	// HTTP makes the requests; nil is one with the address guard.
	HTTP *http.Client

	once sync.Once
	own  *http.Client
}

func (p *PLC) url(did syntax.DID) (string, error) {
	if did.Method() != "plc" {
		return "", fmt.Errorf("%s is no did:plc", did)
	}
	if err := atcr.CheckDID(did.String()); err != nil {
		return "", err
	}
	base := strings.TrimRight(p.URL, "/")
	if base == "" {
		base = DefaultPLCURL
	}
	return base + "/" + did.String(), nil
}

func (p *PLC) client() *http.Client {
	if p.HTTP != nil {
		return p.HTTP
	}
	p.once.Do(func() { p.own = httpx.NewClient(httpx.ClientOptions{UserAgent: "atcr"}) })
	return p.own
}

// Log fetches the audit log of a DID past all caches, and verifies it. Errors: ErrPLCUnavailable, ErrPLCNotFound, ErrPLCLog.
func (p *PLC) Log(ctx context.Context, did syntax.DID) (*PLCLog, error) {
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
		return nil, fmt.Errorf("%w: log of %s: %w", ErrPLCUnavailable, did, err)
	}
	if resp.StatusCode != http.StatusOK {
		httpx.Drain(resp)
		if resp.StatusCode == http.StatusNotFound {
			return nil, fmt.Errorf("%w: %s", ErrPLCNotFound, did)
		}
		return nil, fmt.Errorf("%w: log of %s: status %d", ErrPLCUnavailable, did, resp.StatusCode)
	}
	b, err := httpx.ReadLimited(resp, MaxPLCLog)
	switch {
	case errors.Is(err, httpx.ErrTooLarge):
		return nil, fmt.Errorf("%w: %s: %w", ErrPLCLog, did, err)
	case err != nil:
		return nil, fmt.Errorf("%w: log of %s: %w", ErrPLCUnavailable, did, err)
	}
	return ParsePLCLog(did, b)
}

// Submit sends a signed operation. Errors: ErrPLCRefused with the directory's reason, also for one over [MaxPLCOperation], which is not
// sent; ErrPLCUnavailable, after which the operation may have been taken nevertheless.
func (p *PLC) Submit(ctx context.Context, did syntax.DID, op didplc.Operation) error {
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
		return fmt.Errorf("%w: submitting to %s: %w", ErrPLCUnavailable, did, err)
	}
	if resp.StatusCode == http.StatusOK {
		httpx.Drain(resp)
		return nil
	}
	reason, _ := httpx.ReadLimited(resp, 4<<10)
	if s := resp.StatusCode; s >= 500 || s == http.StatusTooManyRequests || s == http.StatusRequestTimeout {
		return fmt.Errorf("%w: submitting to %s: status %d", ErrPLCUnavailable, did, s)
	}
	return fmt.Errorf("%w: %s: status %d: %s", ErrPLCRefused, did, resp.StatusCode, clip(strings.TrimSpace(string(reason))))
}

// operationJSON is the operation as it is sent, if it isn't too long.
func operationJSON(op didplc.Operation) ([]byte, error) {
	b, err := json.Marshal(op.AsOpEnum())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPLCRefused, err)
	}
	if len(b) > MaxPLCOperation {
		return nil, fmt.Errorf("%w: it has %d bytes, the directory takes %d: remove services, aliases or keys that are no longer used", ErrPLCRefused, len(b), MaxPLCOperation)
	}
	return b, nil
}
