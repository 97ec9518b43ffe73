package pds

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/registry/pds/internal/settle"
)

// manifests is what package settle asks of a Backend.
type manifests struct{ b *Backend }

// Outcome looks at the owner's PDS under the key that the copy knows and the keys that we write.
func (m manifests) Outcome(ctx context.Context, in settle.Intent) (settle.Found, error) {
	b := m.b
	o, err := b.names.owner(ctx, in.Owner)
	if err != nil {
		return settle.Found{}, err
	}
	keys := []string{atcr.ManifestRKey(in.Digest), atcr.ManifestRKeyIn(in.Repository, in.Digest)}
	known, ok, err := manifestByDigest(ctx, b.db.Read(), in.Owner, in.Repository, in.Digest)
	if err != nil {
		return settle.Found{}, err
	}
	if ok && known.RKey != keys[0] && known.RKey != keys[1] {
		keys = append([]string{known.RKey}, keys...)
	}
	gone := settle.Found{Manifest: func(ctx context.Context) ([]byte, error) { return m.Cached(ctx, in.Digest), nil }}
	for _, key := range keys {
		rec, err := b.servers.of(o).getRecord(ctx, in.Owner, atcr.NSIDManifest, key)
		if errors.Is(err, errNoRecord) {
			continue
		}
		if err != nil {
			return settle.Found{}, err
		}
		row, err := readManifest(key, rec.CID, rec.Value)
		if err != nil || row.Repository != in.Repository || row.Digest != in.Digest || in.Kind == settle.Push && row.Hold != in.Hold {
			continue
		}
		if !ok || known.CID != row.CID {
			b.doubt(ctx, in.Owner)
		}
		return settle.Found{There: true, Manifest: func(ctx context.Context) ([]byte, error) {
			served, err := b.bodies.get(ctx, o, row)
			return served.bytes, err
		}}, nil
	}
	if ok {
		b.doubt(ctx, in.Owner)
	}
	return gone, nil
}

// HoldOf looks into the copy, as long as the owner is an account.
func (m manifests) HoldOf(ctx context.Context, owner, repository string, d digest.Digest) (string, error) {
	o, err := m.b.names.owner(ctx, owner)
	if err != nil {
		return "", err
	}
	row, ok, err := manifestByDigest(ctx, m.b.db.Read(), o.DID, repository, d)
	if err != nil || !ok {
		return "", err
	}
	return row.Hold, nil
}

// Cached returns bytes that lie in the database.
func (m manifests) Cached(ctx context.Context, d digest.Digest) []byte {
	c, ok, err := m.b.bodies.cached(ctx, d)
	if err != nil || !ok {
		return nil
	}
	return c.bytes
}

// Settle begins to settle open intents that are due, a few of each owner, and returns how many. It does not wait for them.
func (b *Backend) Settle(ctx context.Context) (int, error) { return b.settler.Due(ctx) }

// Unsettled is a push or delete of which the hold has not been told yet, or which it refused.
type Unsettled struct {
	Kind       string // push or delete
	Owner      string // DID
	Repository string
	Digest     digest.Digest
	Tags       []string
	Hold       string // DID
	Since      time.Time
	State      string // open, session (its session has ended), refused, expired
	Reason     string
}

// Unsettled lists them for an owner, or with an empty owner for all, oldest first, at most 1000.
func (b *Backend) Unsettled(ctx context.Context, owner string) ([]Unsettled, error) {
	list, err := b.settler.List(ctx, owner)
	if err != nil {
		return nil, err
	}
	out := make([]Unsettled, len(list))
	for i, in := range list {
		out[i] = Unsettled{in.Kind, in.Owner, in.Repository, in.Digest, in.Tags, in.Hold, time.Unix(in.Created, 0), in.State, in.Reason}
	}
	return out, nil
}
