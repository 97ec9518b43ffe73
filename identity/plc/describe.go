package plc

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/internal/plclog"
)

// Report is what there is to say about an identity.
type Report struct {
	DID       syntax.DID           `json:"did"`
	PublicURL string               `json:"public_url"`
	Handle    string               `json:"handle,omitempty"`
	Document  identity.DIDDocument `json:"document"` // as the service shows it
	// SigningKey and RotationKey are the public halves of the keys on disk, as did:key.
	SigningKey  string `json:"signing_key"`
	RotationKey string `json:"rotation_key,omitempty"`
	// RotationKeys may change the DID, the highest first.
	RotationKeys []string `json:"rotation_keys,omitempty"`
	// MayRotate reports whether ours is one of them.
	MayRotate bool `json:"may_rotate"`
	// Drift are the differences between directory and service: "what: theirs -> ours".
	Drift []string `json:"drift,omitempty"`
	// Pending reports that a key rotation is not finished.
	Pending bool `json:"rotation_pending,omitempty"`
	// Warnings are about names that can't be used, and a directory that can't be asked.
	Warnings []string `json:"warnings,omitempty"`
}

// Describe returns what there is to say about the identity, also about a did:web. It changes nothing; a directory that
// can't be asked is one of the warnings.
func (m *Manager) Describe(ctx context.Context) (*Report, error) {
	id, self := m.Identity(), m.self()
	doc, err := identity.Document(id)
	if err != nil {
		return nil, err
	}
	r := &Report{
		DID: id.DID, PublicURL: id.PublicURL, Handle: id.Handle.String(), Document: doc,
		Pending: m.folder.Rotating(), Warnings: plclog.NameWarnings(id.DID, id.PublicURL, id.TestMode),
	}
	for _, file := range m.folder.Offered(id.DID) {
		r.Warnings = append(r.Warnings, file+" waits for an operation that is signed elsewhere: call rotate-key again once the directory "+
			"has it, or remove the file to give it up")
	}
	if err := m.folder.CheckKey(id.Key); err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
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
	log, err := m.folder.ReadLog(ctx, id.DID)
	switch {
	case err != nil:
		r.Warnings = append(r.Warnings, err.Error())
		return r, nil
	case log.Tombstoned():
		r.Warnings = append(r.Warnings, "the DID was given up: it is a tombstone")
		return r, nil
	}
	r.RotationKeys = log.Head().Operation.AsOperation().EquivalentRotationKeys()
	r.MayRotate = plclog.MayRotate(log, id.Rotation)
	_, r.Drift, err = self.Wants(m.folder.RecoveryDIDKey)(log)
	return r, err
}
