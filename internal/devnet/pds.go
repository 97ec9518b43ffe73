package devnet

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/repo/xrpc"
)

// PDSConfig says how to open a PDS.
type PDSConfig struct {
	Dir       string // keeps it; required
	PublicURL string // as DID documents name it; required
	Accounts  []NewAccount
	MaxBlob   int64            // bytes; 0 is 5 MiB
	Log       *slog.Logger     // nil is silent
	Clock     func() time.Time // nil is time.Now
}

// PDS is a Personal Data Server for a few accounts. Safe for concurrent use.
type PDS struct {
	cfg   PDSConfig
	plc   *Directory
	did   string // of the server
	mux   *http.ServeMux
	calls map[string]http.Handler // by NSID

	mu       sync.Mutex // guards the state and writing it
	state    *pdsState
	accounts map[string]*account // by DID; fixed after Open
	handles  map[string]*account
}

type account struct {
	*accountState
	key   atcrypto.PrivateKeyExportable
	repo  *repo.Repo
	store *sqlstore.Store
}

// OpenPDS opens the server and makes the accounts that aren't there. Each account's DID document is brought in line with
// PublicURL. Close it when it is no longer served.
func OpenPDS(ctx context.Context, plc *Directory, cfg PDSConfig) (p *PDS, err error) {
	u, err := url.Parse(cfg.PublicURL)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("open PDS: PublicURL %q is no address", cfg.PublicURL)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.MaxBlob <= 0 {
		cfg.MaxBlob = 5 << 20
	}
	if cfg.Accounts == nil {
		cfg.Accounts = []NewAccount{{Handle: "alice.test"}, {Handle: "bob.test"}}
	}
	p = &PDS{cfg: cfg, plc: plc, did: "did:web:" + u.Hostname(), accounts: map[string]*account{}, handles: map[string]*account{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open PDS in %s: %w", cfg.Dir, err), p.Close())
			p = nil
		}
	}()
	if err := durable.MkdirAll(cfg.Dir, 0o700); err != nil {
		return p, err
	}
	if err := p.loadState(); err != nil {
		return p, err
	}
	for _, a := range p.state.Accounts {
		if err := p.openAccount(ctx, a); err != nil {
			return p, fmt.Errorf("account %s: %w", a.Handle, err)
		}
	}
	p.routes()
	return p, nil
}

// loadState reads the state and adds what is missing; it is on the disk before the directory hears of any DID.
func (p *PDS) loadState() error {
	s, err := loadState(p.cfg.Dir)
	if err != nil {
		return err
	}
	if s == nil {
		key, err := atcrypto.GeneratePrivateKeyK256()
		if err != nil {
			return err
		}
		s = &pdsState{JWTSecret: make([]byte, 32), RotationKey: key.Multibase()}
		rand.Read(s.JWTSecret) //nolint:errcheck // never fails
	}
	p.state = s
	for _, want := range p.cfg.Accounts {
		handle, err := syntax.ParseHandle(strings.ToLower(want.Handle))
		if err != nil {
			return fmt.Errorf("account %q: %w", want.Handle, err)
		}
		if slices.ContainsFunc(s.Accounts, func(a *accountState) bool { return a.Handle == handle.String() }) {
			continue
		}
		a, err := p.newAccount(handle.String(), want.Password)
		if err != nil {
			return fmt.Errorf("account %s: %w", handle, err)
		}
		s.Accounts = append(s.Accounts, a)
	}
	return s.save(p.cfg.Dir)
}

func (p *PDS) newAccount(handle, password string) (*accountState, error) {
	if password == "" {
		password = newPassword()
	}
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return nil, err
	}
	op, err := p.operation(handle, key, nil)
	if err != nil {
		return nil, err
	}
	did, err := op.DID()
	if err != nil {
		return nil, err
	}
	genesis, err := json.Marshal(op)
	return &accountState{Handle: handle, DID: did, Password: password, Key: key.Multibase(), Genesis: genesis}, err
}

// operation is a signed PLC operation that says what should be; prev is nil for the first.
func (p *PDS) operation(handle string, key atcrypto.PrivateKey, prev *string) (*didplc.RegularOp, error) {
	rotation, err := atcrypto.ParsePrivateMultibase(p.state.RotationKey)
	if err != nil {
		return nil, err
	}
	rotationPub, err := rotation.PublicKey()
	if err != nil {
		return nil, err
	}
	pub, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	op := &didplc.RegularOp{
		Type:                "plc_operation",
		RotationKeys:        []string{rotationPub.DIDKey()},
		VerificationMethods: map[string]string{"atproto": pub.DIDKey()},
		AlsoKnownAs:         []string{"at://" + handle},
		Services:            map[string]didplc.OpService{"atproto_pds": {Type: "AtprotoPersonalDataServer", Endpoint: p.cfg.PublicURL}},
		Prev:                prev,
	}
	return op, op.Sign(rotation)
}

func (p *PDS) openAccount(ctx context.Context, s *accountState) error {
	key, err := atcrypto.ParsePrivateMultibase(s.Key)
	if err != nil {
		return err
	}
	if err := p.ensureDID(ctx, s, key); err != nil {
		return err
	}
	a := &account{accountState: s, key: key}
	a.store, err = sqlstore.Open(ctx, filepath.Join(p.cfg.Dir, strings.TrimPrefix(s.DID, "did:plc:")+".db"))
	if err != nil {
		return err
	}
	p.accounts[s.DID], p.handles[s.Handle] = a, a
	a.repo, err = repo.Open(ctx, a.store, repo.Options{DID: s.DID, Key: key, Clock: p.cfg.Clock, Log: p.cfg.Log, MaxBlob: p.cfg.MaxBlob})
	return err
}

// ensureDID submits the genesis operation that a crash kept back, and an update where the server has moved.
func (p *PDS) ensureDID(ctx context.Context, s *accountState, key atcrypto.PrivateKey) error {
	latest, err := p.plc.store.GetLatest(ctx, s.DID)
	if err != nil {
		return err
	}
	if latest == nil {
		var op didplc.OpEnum
		if err := json.Unmarshal(s.Genesis, &op); err != nil {
			return err
		}
		if err := p.plc.Submit(ctx, s.DID, op.AsOperation()); err != nil {
			return err
		}
		if latest, err = p.plc.store.GetLatest(ctx, s.DID); err != nil {
			return err
		}
	}
	if r := latest.Op.AsOpEnum().Regular; r != nil && r.Services["atproto_pds"].Endpoint == p.cfg.PublicURL {
		return nil
	}
	op, err := p.operation(s.Handle, key, &latest.OpCid)
	if err != nil {
		return err
	}
	return p.plc.Submit(ctx, s.DID, op)
}

// Accounts are the server's accounts in the order they were made.
func (p *PDS) Accounts() []Account {
	out := make([]Account, len(p.state.Accounts))
	for i, a := range p.state.Accounts {
		out[i] = Account{a.Handle, a.DID, a.Password}
	}
	return out
}

// Close closes the repositories.
func (p *PDS) Close() error {
	var err error
	for _, a := range p.accounts {
		if a.repo != nil {
			err = errors.Join(err, a.repo.Close())
		}
		err = errors.Join(err, a.store.Close())
	}
	return err
}

// find returns an account by DID or handle, or nil.
func (p *PDS) find(id string) *account {
	if a := p.accounts[id]; a != nil {
		return a
	}
	return p.handles[strings.ToLower(id)]
}

// served makes the PDS the xrpc.Accounts of the reading methods.
type served struct{ p *PDS }

func (s served) view(a *account) xrpc.Account {
	return xrpc.Account{Repo: a.repo, Handle: a.Handle, Document: func(ctx context.Context) (json.RawMessage, error) {
		return s.p.plc.Document(ctx, a.DID)
	}}
}

func (s served) Account(_ context.Context, id string) (xrpc.Account, error) {
	a := s.p.find(id)
	if a == nil {
		return xrpc.Account{}, repo.ErrNotFound
	}
	return s.view(a), nil
}

func (s served) Accounts(_ context.Context, after string) iter.Seq2[xrpc.Account, error] {
	return func(yield func(xrpc.Account, error) bool) {
		var dids []string
		for did := range s.p.accounts {
			if did > after {
				dids = append(dids, did)
			}
		}
		slices.Sort(dids)
		for _, did := range dids {
			if !yield(s.view(s.p.accounts[did]), nil) {
				return
			}
		}
	}
}
