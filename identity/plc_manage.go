package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"
)

// RecoveryWindow is how long a higher rotation key may undo what a lower one signed.
const RecoveryWindow = 72 * time.Hour

// Load answers the stored identity, makes nothing and asks nobody. Errors: fs.ErrNotExist when the folder holds no DID yet; ErrKeyMissing;
// ErrKeyPermissions; ErrKeyFile; ErrContradiction.
func Load(cfg Config) (*Identity, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	stored, err := cfg.storedDID()
	if err != nil {
		return nil, err
	}
	if stored == "" {
		return nil, fmt.Errorf("there is no identity at %s yet: start the service once, or import one: %w", cfg.didPath(), fs.ErrNotExist)
	}
	did, _, err := cfg.chooseDID()
	if err != nil {
		return nil, err
	}
	key, err := cfg.signingKey(did, true)
	if err != nil {
		return nil, err
	}
	id := cfg.identity(did, key)
	if did.Method() == "plc" {
		if id.Rotation, err = cfg.rotationKey(false); err != nil {
			return nil, err
		}
	}
	return id, nil
}

// ReadPLCLog fetches the verified log of the identity past all caches, and makes sure that it goes on from what was seen before.
// Errors: ErrPLCUnavailable; ErrPLCNotFound; ErrPLCLog.
func ReadPLCLog(ctx context.Context, id *Identity, cfg Config) (*PLCLog, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if err := plcOnly(id); err != nil {
		return nil, err
	}
	return cfg.readLog(ctx, id.DID)
}

func plcOnly(id *Identity) error {
	if id.DID.Method() != "plc" {
		return fmt.Errorf("%s is no did:plc: it has no directory entry; what its host serves is its document", id.DID)
	}
	return nil
}

// AddRecoveryKey puts a public key (did:key:…) first in the rotation list, above all others. It is for a key that is kept elsewhere.
// Errors: those of [EnsurePLCCurrent], and ErrNoRotationKey.
func AddRecoveryKey(ctx context.Context, id *Identity, cfg Config, didKey string, dryRun bool) (*PLCChange, error) {
	if _, err := atcrypto.ParsePublicDIDKey(didKey); err != nil {
		return nil, fmt.Errorf("%q is no public key as did:key:z…: %w", clip(didKey), err)
	}
	return id.alter(ctx, cfg, dryRun, func(now didplc.RegularOp) (didplc.RegularOp, error) {
		if i := slices.Index(now.RotationKeys, didKey); i != 0 {
			rest := slices.DeleteFunc(slices.Clone(now.RotationKeys), func(k string) bool { return k == didKey })
			now.RotationKeys = slices.Insert(rest, 0, didKey)
		}
		return now, nil
	})
}

// Move names another public URL in the directory: the address of our services, and the handle. The configuration must name it, too, from
// the next start on. Errors: those of [EnsurePLCCurrent], and ErrNoRotationKey.
func Move(ctx context.Context, id *Identity, cfg Config, publicURL string, dryRun bool) (*PLCChange, error) {
	moved := *id
	moved.PublicURL = strings.TrimRight(publicURL, "/")
	moved.Handle = handleOf(moved.PublicURL)
	if _, err := WebDID(publicURL, id.TestMode); err != nil { // the same rules: scheme and host, https outside test mode
		return nil, err
	}
	return id.alter(ctx, cfg, dryRun, func(now didplc.RegularOp) (didplc.RegularOp, error) { return moved.wanted(now, cfg.RecoveryDIDKey) })
}

func (id *Identity) alter(ctx context.Context, cfg Config, dryRun bool, f func(didplc.RegularOp) (didplc.RegularOp, error)) (*PLCChange, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if err := plcOnly(id); err != nil {
		return nil, err
	}
	return cfg.change(ctx, id.DID, id.Rotation, dryRun, func(log *PLCLog) (didplc.Operation, []string, error) { return next(log, f) })
}

// Tombstone gives the DID up: nobody finds it any more, and after 72 hours nothing brings it back. confirm must be the DID itself.
// Errors: those of [EnsurePLCCurrent], and ErrNoRotationKey.
func Tombstone(ctx context.Context, id *Identity, cfg Config, confirm string, dryRun bool) (*PLCChange, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if err := plcOnly(id); err != nil {
		return nil, err
	}
	if confirm != id.DID.String() && !dryRun {
		return nil, fmt.Errorf("not confirmed: %q is not %s; nothing was changed", clip(confirm), id.DID)
	}
	return cfg.change(ctx, id.DID, id.Rotation, dryRun, func(log *PLCLog) (didplc.Operation, []string, error) {
		if log.Tombstoned() {
			return nil, nil, nil
		}
		return &didplc.TombstoneOp{Type: "plc_tombstone", Prev: log.Head().CID}, []string{"the DID: given up for good"}, nil
	})
}

// Recover undoes an operation, and all after it, by one that follows the operation before it and says what that said. key must stand higher in
// the rotation list than the key that signed the undone operation, and no more than 72 hours may have passed; nil is
// the identity's own rotation key. See [Undoable]. Errors: ErrPLCRefused with the reason, and those of [EnsurePLCCurrent].
func Recover(ctx context.Context, id *Identity, cfg Config, undo string, key atcrypto.PrivateKey, dryRun bool) (*PLCChange, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if err := plcOnly(id); err != nil {
		return nil, err
	}
	if key == nil {
		key = id.Rotation
	}
	return cfg.change(ctx, id.DID, key, dryRun, func(log *PLCLog) (didplc.Operation, []string, error) {
		bad := log.Find(undo)
		switch {
		case bad == nil:
			return nil, nil, fmt.Errorf("%w: %s has no operation %s; identity log shows them", ErrPLCRefused, log.DID, clip(undo))
		case bad.Nullified:
			return nil, nil, nil
		case bad.Operation.AsOperation().IsGenesis():
			return nil, nil, fmt.Errorf("%w: the genesis operation can't be undone", ErrPLCRefused)
		}
		prev := log.Find(bad.Operation.AsOperation().PrevCIDStr())
		want, err := plcState(prev)
		if err != nil {
			return nil, nil, err
		}
		lines := []string{"the DID: given up -> there again"}
		if now, err := plcState(log.Head()); err == nil {
			lines = differences(now, want)
		}
		want.Prev = &prev.CID
		return &want, append(lines, "undone: "+undo+" and all after it"), nil
	})
}

// Undoable answers the operations that key may still undo at a time, oldest first.
func Undoable(log *PLCLog, key atcrypto.PrivateKey, now time.Time) []*didplc.LogEntry {
	var all []*didplc.LogEntry
	for i := range log.Entries[1:] {
		e := &log.Entries[i+1]
		if e.Nullified || now.Sub(createdAt(e)) > RecoveryWindow {
			continue
		}
		prev := log.Find(e.Operation.AsOperation().PrevCIDStr())
		if prev == nil {
			continue
		}
		op, err := plcState(prev)
		if err != nil {
			continue
		}
		op.Prev = &prev.CID
		if op.Sign(key) == nil && log.check(&op, now) == nil {
			all = append(all, e)
		}
	}
	return all
}

// PLCEvent is one operation of a DID's history.
type PLCEvent struct {
	Time      time.Time `json:"time"`
	CID       string    `json:"cid"`
	Signer    string    `json:"signer"` // did:key
	Rank      int       `json:"rank"`   // of the signer in the list before, from 1, the highest
	Nullified bool      `json:"nullified,omitempty"`
	Changes   []string  `json:"changes"`
}

// History tells what each operation of a log changed, and who signed it.
func (l *PLCLog) History() []PLCEvent {
	var all []PLCEvent
	for i := range l.Entries {
		e := &l.Entries[i]
		op := e.Operation.AsOperation()
		ev := PLCEvent{Time: createdAt(e), CID: e.CID, Nullified: e.Nullified}
		keys, before := op.EquivalentRotationKeys(), didplc.RegularOp{}
		if prev := l.Find(op.PrevCIDStr()); prev != nil {
			keys = prev.Operation.AsOperation().EquivalentRotationKeys()
			before, _ = plcState(prev)
		}
		if n, err := didplc.VerifySignatureAny(op, keys); err == nil {
			ev.Signer, ev.Rank = keys[n], n+1
		}
		if now, err := plcState(e); errors.Is(err, ErrPLCTombstone) {
			ev.Changes = []string{"the DID: given up"}
		} else if err == nil {
			ev.Changes = differences(before, now)
		}
		all = append(all, ev)
	}
	return all
}

// Report is what there is to say about an identity.
type Report struct {
	DID       syntax.DID  `json:"did"`
	PublicURL string      `json:"public_url"`
	Handle    string      `json:"handle,omitempty"`
	Document  DIDDocument `json:"document"` // as the service shows it
	// SigningKey and RotationKey are the public halves of the keys on disk, as did:key.
	SigningKey  string `json:"signing_key"`
	RotationKey string `json:"rotation_key,omitempty"`
	// RotationKeys may change the DID, the highest first.
	RotationKeys []string `json:"rotation_keys,omitempty"`
	// MayRotate tells whether ours is one of them.
	MayRotate bool `json:"may_rotate"`
	// Drift are the differences between directory and service: "what: theirs -> ours".
	Drift []string `json:"drift,omitempty"`
	// Pending tells that a key rotation is not finished.
	Pending bool `json:"rotation_pending,omitempty"`
	// Warnings are about names that can't be used, and a directory that can't be asked.
	Warnings []string `json:"warnings,omitempty"`
}

// Describe answers a report. It changes nothing; a directory that can't be asked is one of its warnings.
func Describe(ctx context.Context, id *Identity, cfg Config) (*Report, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	doc, err := Document(id)
	if err != nil {
		return nil, err
	}
	r := &Report{DID: id.DID, PublicURL: id.PublicURL, Handle: id.Handle.String(), Document: doc, Pending: cfg.rotating(), Warnings: NameWarnings(id.DID, id.PublicURL, id.TestMode)}
	pub, err := id.Key.PublicKey()
	if err != nil {
		return nil, err
	}
	r.SigningKey = pub.DIDKey()
	if id.Rotation != nil {
		if pub, err = id.Rotation.PublicKey(); err != nil {
			return nil, err
		}
		r.RotationKey = pub.DIDKey()
	}
	if id.DID.Method() != "plc" {
		return r, nil
	}
	log, err := cfg.readLog(ctx, id.DID)
	switch {
	case err != nil:
		r.Warnings = append(r.Warnings, err.Error())
		return r, nil
	case log.Tombstoned():
		r.Warnings = append(r.Warnings, "the DID was given up: it is a tombstone")
		return r, nil
	}
	r.RotationKeys = log.Head().Operation.AsOperation().EquivalentRotationKeys()
	r.MayRotate = mayRotate(log, id.Rotation)
	r.Drift, err = PLCDrift(id, log, cfg.RecoveryDIDKey)
	return r, err
}

// NameWarnings tells why others on today's network can't use a service's name: PDSes mint no service tokens for a did:web
// with an address, or with a port unless it is localhost's (protocol.md §8), and a DID that doesn't lead to the public URL is not found.
func NameWarnings(did syntax.DID, publicURL string, testMode bool) []string {
	var w []string
	name, port, _ := strings.Cut(strings.TrimPrefix(did.String(), "did:web:"), "%3A")
	switch {
	case did.Method() != "web":
		return nil
	case isAddress(name):
		w = append(w, fmt.Sprintf("%s names an address: PDSes mint no service tokens for it, so nobody can push; use a host name, did:web:localhost%%3APORT under test mode, or did_method plc", did))
	case port != "" && name != "localhost":
		w = append(w, fmt.Sprintf("%s has a port: PDSes mint no service tokens for it, so nobody can push; serve it on 443 under its name alone, or use did_method plc", did))
	case name == "localhost" && !testMode:
		w = append(w, fmt.Sprintf("%s is found on this machine only, and only under test mode", did))
	}
	if now, err := WebDID(publicURL, testMode); err == nil && !SameDID(now, did, testMode) {
		w = append(w, fmt.Sprintf("%s does not lead to %s: others find this service only while its host does", did, publicURL))
	}
	return w
}

func isAddress(host string) bool {
	host = strings.Trim(host, "[]")
	return strings.Trim(host, "0123456789.") == "" || strings.Contains(host, ":")
}

// GenesisDID answers the DID that a signed genesis operation makes, as genesis.json holds one.
func GenesisDID(operation []byte) (syntax.DID, error) {
	op, err := parseGenesis(operation)
	if err != nil {
		return "", fmt.Errorf("genesis operation: %w", err)
	}
	did, err := op.DID()
	return syntax.DID(did), err
}

// Preview answers the DID that a start would have, without making or asking anything; empty for a did:plc that is still to be made.
// Errors: ErrContradiction, and what is wrong with the public URL as a name.
func Preview(cfg Config) (syntax.DID, error) {
	if err := cfg.fill(); err != nil {
		return "", err
	}
	did, _, err := cfg.chooseDID()
	return did, err
}
