package plc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/did-method-plc/go-didplc/didplc"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/internal/plclog"
)

// ErrNotPLC: the identity is a did:web, which has no log and no rotation keys.
var ErrNotPLC = plclog.ErrNotPLC

// Manager changes one identity. It is safe for concurrent use: changes wait for each other.
type Manager struct {
	folder *plclog.Folder
	turn   chan struct{} // holds one: who changes something
	mu     sync.Mutex    // for change
	id     atomic.Pointer[identity.Identity]
}

// NewManager returns a manager of an identity that identity.Load or identity.LoadOrCreateDID returned for the same
// configuration. It asks nobody. It panics when id is nil. Errors: *identity.ConfigError.
func NewManager(id *identity.Identity, cfg identity.Config) (*Manager, error) {
	if id == nil {
		panic("plc: NewManager without an identity: load it by identity.Load")
	}
	folder, err := plclog.Folder{
		Dir: cfg.Dir, KeyPath: cfg.KeyPath, KeyType: cfg.KeyType, RotationKeyPath: cfg.RotationKeyPath, RotationKey: cfg.RotationKey,
		RecoveryDIDKey: cfg.RecoveryDIDKey, PLCURL: cfg.PLCURL, TestMode: cfg.TestMode, HTTP: cfg.HTTP, Clock: cfg.Clock, Log: cfg.Log,
	}.Open()
	if err != nil {
		return nil, err
	}
	m := &Manager{folder: folder, turn: make(chan struct{}, 1)}
	m.id.Store(id)
	return m, nil
}

// Identity returns the identity as it is now: another value than before when Rotate, CompleteRotations or Move has changed it.
func (m *Manager) Identity() *identity.Identity { return m.id.Load() }

// begin waits for other changes to end.
func (m *Manager) begin(ctx context.Context) (end func(), err error) {
	select {
	case m.turn <- struct{}{}:
		return func() { <-m.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *Manager) self() *plclog.Self {
	id := m.Identity()
	s := &plclog.Self{DID: id.DID, Key: id.Key, Rotation: id.Rotation, PublicURL: id.PublicURL, Handle: id.Handle}
	for _, service := range id.Services {
		s.Services = append(s.Services, plclog.Service(service))
	}
	return s
}

// change makes an altered copy of the identity the current one.
func (m *Manager) change(alter func(*identity.Identity)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fresh := *m.Identity()
	alter(&fresh)
	m.id.Store(&fresh)
}

// Key names a key of an identity.
type Key int

const (
	SigningKey  Key = iota // signs commits and service tokens
	RotationKey            // may change a did:plc
)

// RotateOptions are of [Manager.Rotate] and [Manager.RequestRotation]. The zero value is a new K-256 signing key.
type RotateOptions struct {
	Key Key
	// Type of the new key: "k256" (also when empty) or "p256".
	Type string
	// DryRun returns the plan and changes nothing. The plan of a did:plc takes the directory's log, so it fails without the directory.
	DryRun bool
	// Unsigned returns the plan for a rotation key that is kept elsewhere (see the package comment), and keeps the new key. Not with
	// DryRun, which keeps none.
	Unsigned bool
}

// mode refuses what is no key of an identity.
func (o RotateOptions) mode() (plclog.Mode, error) {
	if o.Key != SigningKey && o.Key != RotationKey {
		return 0, fmt.Errorf("RotateOptions.Key %d: want SigningKey or RotationKey", o.Key)
	}
	return modeOf("RotateOptions", o.DryRun, o.Unsigned)
}

// Rotate gives the identity a new key in place of the old one, and [Manager.Identity] has it when Rotate returns. A
// rotation that was broken off is gone on with, by the key that it made. Sign a commit with a new signing key and announce
// it afterwards (repo.Repo.Rekey, Resign). Beside a process that runs as this identity use [Manager.RequestRotation]
// instead.
//
// The plan of a dry run names a key that is made for it alone and not kept, unless a rotation was broken off: don't
// sign that plan elsewhere, but the one of o.Unsigned. A did:web has no operation, and no plan to be signed
// elsewhere: others see the new signing key as soon as the service serves the document of the new identity.
//
// Errors: those of identity.EnsurePLCCurrent; identity.ErrNoRotationKey; [ErrNotPLC] for the rotation key of a did:web.
// Beside an error [Manager.Identity] may have a new signing key: then the directory names it, and its file could not get
// the old one's name. Use it; CompleteRotations tries again.
func (m *Manager) Rotate(ctx context.Context, o RotateOptions) (*Plan, error) {
	mode, err := o.mode()
	if err != nil {
		return nil, err
	}
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	self := m.self()
	rotate := m.folder.RotateSigningKey
	if o.Key == RotationKey {
		rotate = m.folder.RotateRotationKey
	}
	key, c, err := rotate(ctx, self, o.Type, mode)
	switch {
	case key == nil:
	case o.Key == RotationKey:
		m.change(func(id *identity.Identity) { id.Rotation = key })
	default:
		m.change(func(id *identity.Identity) { id.Key = key })
	}
	return planOf(c), err
}

// RequestRotation asks the process that runs as the identity for a rotation: it makes the new key durable, beside the one
// in use, and returns its public half. A rotation that is not finished is requested again, with the key that it made. It is
// done when identity.Load returns the key. A dry run of [Manager.Rotate] shows beforehand what will be done; o.DryRun is
// ignored.
//
// Errors: those of files; for the rotation key identity.ErrNoRotationKey and what Rotate refuses.
func (m *Manager) RequestRotation(ctx context.Context, o RotateOptions) (atcrypto.PublicKey, error) {
	if _, err := o.mode(); err != nil {
		return nil, err
	}
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if o.Key == RotationKey {
		return m.folder.RequestRotationKey(ctx, m.self(), o.Type)
	}
	return m.folder.RequestSigningKey(ctx, m.self(), o.Type)
}

// RotationRequested returns when a rotation that is not finished was requested, the zero time when there is none. It looks
// at the folder alone, which takes microseconds.
func (m *Manager) RotationRequested() time.Time { return m.folder.RotationRequested(m.Identity().DID) }

// CompleteRotations goes on with rotations that were requested or broken off, for the process that runs as the identity;
// [Manager.Identity] then has the new keys, and is the value it was when there was nothing to do. The rotation key is read
// again, so that one which is kept elsewhere may be put in its place for the moment; the identity has it afterwards only if
// it had one before. Sign and announce with a new signing key afterwards (repo.Repo.Rekey). It may do a part and fail: then
// Identity has what is done.
//
// A new key whose operation was signed elsewhere (RotateOptions.Unsigned) is taken into use when the directory names it.
//
// It also compares the signing key's file with the identity: a key that was given the name by another process, or by a try
// that failed just then, is taken over when the directory names it (of a did:web always). Don't call
// identity.EnsurePLCCurrent after an error, except identity.ErrPLCNotFound and identity.ErrNoRotationKey: it could bring
// the old key back.
//
// Errors: those of identity.EnsurePLCCurrent; identity.ErrNoRotationKey, ErrKeyMissing, ErrKeyPermissions; ErrKeyFile, also
// for a file with a key that neither the identity has nor the directory names. After each of them it can be called again.
func (m *Manager) CompleteRotations(ctx context.Context) error {
	end, err := m.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	self := m.self()
	fresh, err := m.folder.CompleteRotations(ctx, self)
	if fresh != self {
		m.change(func(id *identity.Identity) { id.Key, id.Rotation = fresh.Key, fresh.Rotation })
	}
	return err
}

// AddRecoveryKeyOptions are of [Manager.AddRecoveryKey].
type AddRecoveryKeyOptions struct {
	// DIDKey is the public key, as did:key:z…. Its private half is kept off the service's machine.
	DIDKey string
	DryRun bool
	// Unsigned is a dry run that takes no rotation key: the plan is for one that is kept elsewhere. Not with DryRun.
	Unsigned bool
}

// AddRecoveryKey puts a public key first in the list of rotation keys, above all others. Errors: those of identity.EnsurePLCCurrent;
// identity.ErrNoRotationKey; [ErrNotPLC].
func (m *Manager) AddRecoveryKey(ctx context.Context, o AddRecoveryKeyOptions) (*Plan, error) {
	mode, err := modeOf("AddRecoveryKeyOptions", o.DryRun, o.Unsigned)
	if err != nil {
		return nil, err
	}
	if _, err := atcrypto.ParsePublicDIDKey(o.DIDKey); err != nil {
		return nil, plclog.NoPublicKey(o.DIDKey)
	}
	return m.apply(ctx, nil, mode, func(log *plclog.Log, _ *plclog.Self) (didplc.Operation, []string, error) {
		return plclog.Next(log, func(now didplc.RegularOp) (didplc.RegularOp, error) {
			if i := slices.Index(now.RotationKeys, o.DIDKey); i != 0 {
				rest := slices.DeleteFunc(slices.Clone(now.RotationKeys), func(k string) bool { return k == o.DIDKey })
				now.RotationKeys = slices.Insert(rest, 0, o.DIDKey)
			}
			return now, nil
		})
	})
}

// MoveOptions are of [Manager.Move].
type MoveOptions struct {
	// PublicURL is the new address, as in identity.Config.
	PublicURL string
	DryRun    bool
	// Unsigned is a dry run that takes no rotation key: the plan is for one that is kept elsewhere. Not with DryRun.
	Unsigned bool
}

// Move names another public URL in the directory: the address of the services, and the handle. identity.Config.PublicURL
// must be the new one, too, from the next start on, or it moves back. Errors: those of identity.EnsurePLCCurrent;
// identity.ErrNoRotationKey; [ErrNotPLC].
func (m *Manager) Move(ctx context.Context, o MoveOptions) (*Plan, error) {
	mode, err := modeOf("MoveOptions", o.DryRun, o.Unsigned)
	if err != nil {
		return nil, err
	}
	if _, err := identity.WebDID(o.PublicURL, m.folder.TestMode); err != nil { // the same rules: scheme and host, https outside test mode
		return nil, err
	}
	url := strings.TrimRight(o.PublicURL, "/")
	handle := plclog.HandleOf(url)
	p, err := m.apply(ctx, nil, mode, func(log *plclog.Log, moved *plclog.Self) (didplc.Operation, []string, error) {
		moved.PublicURL, moved.Handle = url, handle
		return moved.Wants(m.folder.RecoveryDIDKey)(log)
	})
	if err == nil && mode == plclog.Submit {
		m.change(func(id *identity.Identity) { id.PublicURL, id.Handle = url, handle })
	}
	return p, err
}

// TombstoneOptions are of [Manager.Tombstone].
type TombstoneOptions struct {
	// Confirm must be the DID itself where something is submitted.
	Confirm string
	DryRun  bool
	// Unsigned is a dry run that takes no rotation key: the plan is for one that is kept elsewhere. Not with DryRun.
	Unsigned bool
}

// Tombstone gives the DID up: nobody finds it any more, and after 72 hours nothing brings it back. Errors: those of
// identity.EnsurePLCCurrent; identity.ErrNoRotationKey; [ErrNotPLC].
func (m *Manager) Tombstone(ctx context.Context, o TombstoneOptions) (*Plan, error) {
	mode, err := modeOf("TombstoneOptions", o.DryRun, o.Unsigned)
	if err != nil {
		return nil, err
	}
	self := m.self()
	if err := self.PLCOnly(); err != nil {
		return nil, err
	}
	if o.Confirm != self.DID.String() && mode == plclog.Submit {
		return nil, fmt.Errorf("not confirmed: %q is not %s; nothing was changed", plclog.Clip(o.Confirm), self.DID)
	}
	return m.apply(ctx, nil, mode, func(log *plclog.Log, _ *plclog.Self) (didplc.Operation, []string, error) {
		if log.Tombstoned() {
			return nil, nil, nil
		}
		return &didplc.TombstoneOp{Type: "plc_tombstone", Prev: log.Head().CID}, []string{"the DID: given up for good"}, nil
	})
}

// RecoverOptions are of [Manager.Recover].
type RecoverOptions struct {
	// Undo is the CID of the operation to undo.
	Undo string
	// Key is the rotation key that signs; nil is the identity's own. See [LoadKey].
	Key    atcrypto.PrivateKey
	DryRun bool
	// Unsigned is a dry run that takes no rotation key: the plan is for one that is kept elsewhere, and whether that one may undo the
	// operation is not looked at. Not with DryRun.
	Unsigned bool
}

// Recover undoes an operation, and all after it, by one that follows the operation before it and says what that said. The
// key must stand higher in the list of rotation keys than the one that signed the undone operation, and no more than 72
// hours may have passed: see [Manager.Revocable]. Errors: identity.ErrPLCRefused with the reason; those of
// identity.EnsurePLCCurrent; identity.ErrNoRotationKey; [ErrNotPLC].
func (m *Manager) Recover(ctx context.Context, o RecoverOptions) (*Plan, error) {
	mode, err := modeOf("RecoverOptions", o.DryRun, o.Unsigned)
	if err != nil {
		return nil, err
	}
	if o.Undo == "" {
		return nil, fmt.Errorf("%w: RecoverOptions.Undo is empty: want the CID of an operation, as History and Revocable show them",
			identity.ErrPLCRefused)
	}
	return m.apply(ctx, o.Key, mode, func(log *plclog.Log, _ *plclog.Self) (didplc.Operation, []string, error) {
		bad := log.Find(o.Undo)
		switch {
		case bad == nil:
			return nil, nil, fmt.Errorf("%w: %s has no operation %s; its history shows them", identity.ErrPLCRefused, log.DID,
				plclog.Clip(o.Undo))
		case bad.Nullified:
			return nil, nil, nil
		case bad.Operation.AsOperation().IsGenesis():
			return nil, nil, fmt.Errorf("%w: the genesis operation can't be undone", identity.ErrPLCRefused)
		}
		prev := log.Find(bad.Operation.AsOperation().PrevCIDStr())
		want, err := plclog.State(prev)
		if err != nil {
			return nil, nil, err
		}
		lines := []string{"the DID: given up -> there again"}
		if now, err := plclog.State(log.Head()); err == nil {
			lines = plclog.Differences(now, want)
		}
		want.Prev = &prev.CID
		return &want, append(lines, "undone: "+o.Undo+" and all after it"), nil
	})
}

// modeOf refuses options that ask for two plans: for this rotation key, and for one that is kept elsewhere.
func modeOf(options string, dryRun, unsigned bool) (plclog.Mode, error) {
	switch {
	case dryRun && unsigned:
		return 0, fmt.Errorf("%s: DryRun and Unsigned are both set: set DryRun for a plan alone, Unsigned for one that is signed elsewhere",
			options)
	case unsigned:
		return plclog.Unsigned, nil
	case dryRun:
		return plclog.DryRun, nil
	}
	return plclog.Submit, nil
}

type planner func(*plclog.Log, *plclog.Self) (didplc.Operation, []string, error)

// apply makes one change of a did:plc. A nil key is the identity's own.
func (m *Manager) apply(ctx context.Context, key atcrypto.PrivateKey, mode plclog.Mode, plan planner) (*Plan, error) {
	end, err := m.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	self := m.self()
	if err := self.PLCOnly(); err != nil {
		return nil, err
	}
	if key == nil {
		key = self.Rotation
	}
	c, err := m.folder.Apply(ctx, self.DID, key, mode,
		func(log *plclog.Log) (didplc.Operation, []string, error) { return plan(log, self) })
	return planOf(c), err
}

// Revocable returns the operations that a rotation key may undo now, oldest first; a nil key is the identity's own. Errors: those of
// [Manager.Log]; identity.ErrNoRotationKey without a key.
func (m *Manager) Revocable(ctx context.Context, key atcrypto.PrivateKey) ([]Event, error) {
	if key == nil {
		if key = m.Identity().Rotation; key == nil {
			return nil, fmt.Errorf("%w: there is none at %s", identity.ErrNoRotationKey, m.folder.RotationKeyPath)
		}
	}
	log, err := m.Log(ctx)
	if err != nil {
		return nil, err
	}
	return log.Revocable(key, m.folder.Clock()), nil
}

// History returns what each operation of the DID changed, and who signed it, oldest first. Errors: those of [Manager.Log].
func (m *Manager) History(ctx context.Context) ([]Event, error) {
	log, err := m.Log(ctx)
	if err != nil {
		return nil, err
	}
	return log.History(), nil
}

// Log fetches the verified log past all caches, makes sure that it goes on from what was seen before, and keeps it in the
// data folder. Errors: identity.ErrPLCUnavailable, ErrPLCForbidden, ErrPLCNotFound, ErrPLCLog; [ErrNotPLC].
func (m *Manager) Log(ctx context.Context) (*Log, error) {
	self := m.self()
	if err := self.PLCOnly(); err != nil {
		return nil, err
	}
	return m.folder.ReadLog(ctx, self.DID)
}

// LoadKey reads a key file: multibase text, PEM, 32 bytes or 64 hex digits, of P-256 or K-256. One that others may read, or
// that lies in a folder others may write to, is refused. Errors: fs.ErrNotExist; identity.ErrKeyPermissions,
// identity.ErrKeyFile.
func LoadKey(path string) (atcrypto.PrivateKeyExportable, error) { return plclog.LoadKey(path) }
