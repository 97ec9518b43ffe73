package auth

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

const (
	maxDevices  = 50     // an account's
	maxWaiting  = 10_000 // devices that wait to be approved
	codeLife    = 10 * time.Minute
	codeLetters = "BCDFGHJKLMNPQRSTVWXZ" // RFC 8628 §6.1: no vowels, no letters that look alike
	codeLength  = 8
	// Wrong user codes of one address within a minute.
	wrongCodes     = 5
	wrongCodesTime = time.Minute

	stateApproved = "approved"
	stateDenied   = "denied"
)

// ErrUserCode: no device waits by this code.
var ErrUserCode = &registry.Error{Code: "UNKNOWN", Status: http.StatusNotFound,
	Message: "no device waits by this code: compare it with what the device shows, which works once and for ten minutes"}

// Devices are laptops and other machines that a person approved, by the flow of RFC 8628. Safe for concurrent use.
//
// Errors of Pending, Approve and Deny: [ErrUserCode]; registry.ErrTooManyRequests with RetryAfter for a client (httpx.WithClient) that
// tried five wrong codes within a minute.
type Devices struct {
	a     *Auth
	wrong *recent
}

// Devices returns what approves, lists and ends devices.
func (a *Auth) Devices() *Devices { return a.devices }

// PendingDevice is a device that waits to be approved: what a person is to see before that.
type PendingDevice struct {
	UserCode string // as the device shows it: BCDF-GHJK
	Name     string // as the device says
	Address  string // where it asked from
	Created  time.Time
	Ends     time.Time
}

// Pending returns the device that waits by a code, however that is typed.
func (d *Devices) Pending(ctx context.Context, userCode string) (*PendingDevice, error) {
	c, err := d.find(ctx, userCode)
	if err != nil {
		return nil, err
	}
	return &PendingDevice{UserCode: showCode(plainCode(userCode)), Name: c.name, Address: c.address, Created: c.created, Ends: c.ends}, nil
}

// Approve gives the device that waits by a code a secret for an account, by which it acts through a grant: a session of [Sessions], which
// should be its own. Ending the device ends a grant of OAuth, too. Errors besides the common ones: ErrDenied when the account has 50
// devices.
func (d *Devices) Approve(ctx context.Context, userCode, did, handle, grantID string) error {
	if did == "" || grantID == "" {
		return errors.New("auth: Devices.Approve: did or grantID is empty")
	}
	c, err := d.find(ctx, userCode)
	if err != nil {
		return err
	}
	if err := d.a.sessions.owned(ctx, did, grantID); err != nil {
		return err
	}
	unlock, err := d.a.sessions.locks.Lock(ctx, "add "+did)
	if err != nil {
		return err
	}
	defer unlock()
	now := d.a.opts.Clock()
	n, err := d.a.secrets.count(ctx, did, kindDevice, now)
	if err != nil {
		return err
	}
	var approved int // and not fetched yet
	if err := d.a.secrets.db.Read().QueryRowContext(ctx, "select count(*) from auth_device_code where did = $1 and ends_at > $2",
		did, now.Unix()).Scan(&approved); err != nil {
		return fmt.Errorf("counting device codes: %w", sqlx.Wrap(err))
	}
	if n+approved >= maxDevices {
		return registry.ErrDenied.With("%s has %d devices, which is the most: end one that is not used any more",
			nameOf(did, handle), maxDevices)
	}
	return d.decide(ctx, c, stateApproved, did, handle, grantID)
}

// Deny refuses the device that waits by a code.
func (d *Devices) Deny(ctx context.Context, userCode string) error {
	c, err := d.find(ctx, userCode)
	if err != nil {
		return err
	}
	return d.decide(ctx, c, stateDenied, "", "", "")
}

// List returns an account's devices, the newest first.
func (d *Devices) List(ctx context.Context, did string) ([]Token, error) {
	return d.a.list(ctx, did, kindDevice)
}

// End ends one: within seconds it is refused, and so are the registry tokens that it gave; its grant of OAuth is ended at the account's
// server. Errors: [ErrNoToken].
func (d *Devices) End(ctx context.Context, did, id string) error {
	return d.a.end(ctx, did, kindDevice, id)
}

// deviceCode is a row of auth_device_code.
type deviceCode struct {
	id            string
	hash          []byte
	name, address string
	created, ends time.Time
	state         string

	did, handle, session string // of who approved it
}

const codeColumns = "id, hash, name, address, created_at, ends_at, state, did, handle, session"

func scanCode(row scanner) (*deviceCode, error) {
	var c deviceCode
	var created, ends int64
	err := row.Scan(&c.id, &c.hash, &c.name, &c.address, &created, &ends, &c.state, &c.did, &c.handle, &c.session)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading a device code: %w", sqlx.Wrap(err))
	}
	c.created, c.ends = time.Unix(created, 0), time.Unix(ends, 0)
	return &c, nil
}

// find returns the device that waits by a code. A wrong code counts before it is known to be one, so that many at once count, too.
func (d *Devices) find(ctx context.Context, userCode string) (*deviceCode, error) {
	now := d.a.opts.Clock()
	client := addressKey(httpx.Client(ctx))
	if wait := d.wrong.add(client, now); wait > 0 {
		return nil, slowed("too many wrong codes", wait)
	}
	c, err := scanCode(d.a.secrets.db.Read().QueryRowContext(ctx, "select "+codeColumns+
		" from auth_device_code where user_hash = $1 and ends_at > $2 and state = ''", userHash(plainCode(userCode)), now.Unix()))
	if err != nil || c != nil {
		d.wrong.takeBack(client, now)
	}
	if err == nil && c == nil {
		err = ErrUserCode
	}
	return c, err
}

// decide settles a device that waits, once.
func (d *Devices) decide(ctx context.Context, c *deviceCode, state, did, handle, session string) error {
	res, err := d.a.secrets.db.Write().ExecContext(ctx, `update auth_device_code set state = $1, did = $2, handle = $3, session = $4
		where id = $5 and state = '' and ends_at > $6`, state, did, handle, session, c.id, d.a.opts.Clock().Unix())
	if err != nil {
		return fmt.Errorf("storing the approval of a device: %w", sqlx.Wrap(err))
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		return ErrUserCode
	}
	return err
}

// wait adds a device that waits to be approved, and returns its codes. Errors: errFull.
func (d *Devices) wait(ctx context.Context, name, address string) (secret, userCode string, err error) {
	now := d.a.opts.Clock()
	var n int
	db := d.a.secrets.db
	if err := db.Read().QueryRowContext(ctx, "select count(*) from auth_device_code where ends_at > $1", now.Unix()).Scan(&n); err != nil {
		return "", "", fmt.Errorf("counting device codes: %w", sqlx.Wrap(err))
	}
	if n >= maxWaiting {
		return "", "", errFull
	}
	id := newID()
	secret, hash := newSecret(kindCode, id)
	for { // until a code is free: of 25 600 million, ten thousand are taken
		userCode = newUserCode()
		_, err = db.Write().ExecContext(ctx, `insert into auth_device_code
			(id, hash, user_hash, name, address, created_at, ends_at, state, did, handle, session)
			values ($1, $2, $3, $4, $5, $6, $7, '', '', '', '')`,
			id, hash, userHash(userCode), name, address, now.Unix(), now.Add(codeLife).Unix())
		if err = sqlx.Wrap(err); !errors.Is(err, sqlx.ErrConstraint) {
			break
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("storing a device code: %w", err)
	}
	return secret, showCode(userCode), nil
}

var errFull = errors.New("too many devices wait to be approved")

// byDeviceCode returns the row of a device code, or nil; it may be over.
func (d *Devices) byDeviceCode(ctx context.Context, secret string) (*deviceCode, error) {
	kind, id := parseSecret(secret)
	c, err := scanCode(d.a.secrets.db.Read().QueryRowContext(ctx, "select "+codeColumns+" from auth_device_code where id = $1", id))
	if err != nil {
		return nil, err
	}
	hash := make([]byte, 32)
	if c != nil && kind == kindCode {
		hash = c.hash
	}
	if !matches(secret, hash) {
		return nil, nil
	}
	return c, nil
}

// redeem makes the device of a code that was approved, once: nil for whoever is second.
func (d *Devices) redeem(ctx context.Context, c *deviceCode, address string) (t *Token, secret string, err error) {
	now := d.a.opts.Clock()
	t = &Token{ID: newID(), kind: kindDevice, DID: c.did, Handle: c.handle, Session: c.session, Name: c.name, Address: address,
		Created: now, Used: now, Ends: now.Add(deviceLife)}
	secret, t.hash = newSecret(kindDevice, t.ID)
	err = sqlx.InTx(ctx, d.a.secrets.db.Write(), func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "delete from auth_device_code where id = $1 and state = $2", c.id, stateApproved)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			t = nil
			return err
		}
		return d.a.secrets.insert(ctx, tx, t)
	})
	if err != nil {
		return nil, "", fmt.Errorf("storing a device: %w", err)
	}
	return t, secret, nil
}

func newUserCode() string {
	const fair = 256 / len(codeLetters) * len(codeLetters)
	code := make([]byte, 0, codeLength)
	for len(code) < codeLength {
		var b [2 * codeLength]byte
		_, _ = rand.Read(b[:]) // it never fails
		for _, c := range b {
			if int(c) < fair && len(code) < codeLength {
				code = append(code, codeLetters[int(c)%len(codeLetters)])
			}
		}
	}
	return string(code)
}

// plainCode undoes what people do to codes: bcdf-ghjk, BCDF GHJK.
func plainCode(typed string) string {
	if len(typed) > 64 {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(codeLetters, r) {
			return r
		}
		return -1
	}, strings.ToUpper(typed))
}

func showCode(code string) string { return code[:codeLength/2] + "-" + code[codeLength/2:] }

func userHash(code string) []byte { return hashOf("user code " + code) }

func nameOf(did, handle string) string {
	if handle != "" {
		return handle
	}
	return did
}

// recent knows when keys did something last, for a limit within a span of time that holds strictly.
type recent struct {
	count int
	span  time.Duration

	mu    sync.Mutex
	times *lru[[]time.Time]
}

// add notes one and returns 0, or nothing and how long to wait.
func (r *recent) add(key string, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, _ := r.times.get(key)
	last := slices.DeleteFunc(slices.Clone(was), func(t time.Time) bool { return now.Sub(t) >= r.span || t.After(now) })
	if len(last) >= r.count {
		return r.span - now.Sub(last[0])
	}
	r.times.put(key, append(last, now))
	return 0
}

// takeBack forgets one that add noted.
func (r *recent) takeBack(key string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, _ := r.times.get(key)
	if i := slices.IndexFunc(was, at.Equal); i >= 0 {
		r.times.put(key, slices.Delete(slices.Clone(was), i, i+1))
	}
}
