package pds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/repo"
)

// push is what one PutManifest wants.
type push struct {
	owner      owner
	repository string
	manifest   registry.ParsedManifest
	tags       []string
	hold       string
	blob       *atcr.Blob // nil until it is at the PDS
	blobCID    string
}

// current returns the record of the manifest, and whether nothing about it has to change.
func (b *Backend) current(ctx context.Context, p *push) (row manifestRow, exists, same bool, err error) {
	row, exists, err = manifestByDigest(ctx, b.db.Read(), p.owner.DID, p.repository, p.manifest.Digest)
	same = exists && row.Hold == p.hold && row.Blob == p.blobCID && row.MediaType == p.manifest.MediaType
	return row, exists, same, err
}

// planPush says what a push has still to write.
func (b *Backend) planPush(ctx context.Context, p *push, retry bool) ([]planned, error) {
	row, exists, same, err := b.current(ctx, p)
	if err != nil {
		return nil, err
	}
	var out []planned
	if !same {
		w, err := b.planManifest(ctx, p, row, exists, retry)
		if err != nil {
			return nil, err
		}
		out, row = append(out, w), *w.manifest
	}
	for _, tag := range p.tags {
		writes, err := b.planTag(ctx, p, row, tag, retry)
		if err != nil {
			return nil, err
		}
		out = append(out, writes...)
	}
	return out, nil
}

func (b *Backend) planManifest(ctx context.Context, p *push, row manifestRow, exists, retry bool) (planned, error) {
	rkey := row.RKey
	if !exists {
		rkey = atcr.ManifestRKey(p.manifest.Digest)
		taken, ok, err := manifestByKey(ctx, b.db.Read(), p.owner.DID, rkey)
		if err != nil {
			return planned{}, err
		}
		if ok && (taken.Repository != p.repository || taken.Digest != p.manifest.Digest) {
			rkey = atcr.ManifestRKeyIn(p.repository, p.manifest.Digest)
			if _, exists, err = manifestByKey(ctx, b.db.Read(), p.owner.DID, rkey); err != nil {
				return planned{}, err
			}
		}
	}
	m := p.manifest
	value := atcr.NewManifest(atcr.ManifestInput{
		Repository: p.repository, HoldDID: p.hold, Blob: p.blob, CreatedAt: b.clock(),
		Digest: m.Digest, MediaType: m.MediaType, SchemaVersion: m.SchemaVersion, Config: m.Config, Layers: m.Layers,
		Manifests: m.Manifests, Subject: m.Subject, Annotations: m.Annotations,
	})
	op := opCreate
	if exists || retry {
		var old atcr.Manifest
		found, err := b.recordNow(ctx, p.owner, atcr.NSIDManifest, rkey, &old)
		if err != nil {
			return planned{}, err
		}
		if found {
			op, value.Extra = opUpdate, old.Extra
			if old.CreatedAt != "" {
				value.CreatedAt = old.CreatedAt
			}
			value.Shrink()
		}
	}
	cid, err := cidOf(value)
	if err != nil {
		return planned{}, err
	}
	next, err := manifestOf(rkey, cid, value)
	if err != nil {
		return planned{}, registry.ErrManifestInvalid.With("the manifest can't be written as a record: %v", err)
	}
	// The bytes are at hand: they say more than a record that was cut.
	next.Layers, next.LayersKnown = layersOf(m), true
	return planned{write: write{Type: op, Collection: atcr.NSIDManifest, RKey: rkey, Value: value}, manifest: &next}, nil
}

// planTag points a tag to a manifest's record. Records of the same pair that would count as newer go.
func (b *Backend) planTag(ctx context.Context, p *push, m manifestRow, tag string, retry bool) ([]planned, error) {
	rows, err := tagRecords(ctx, b.db.Read(), p.owner.DID, p.repository, tag)
	if err != nil {
		return nil, err
	}
	rkey, exists, extra := atcr.TagRKey(p.repository, tag), len(rows) > 0, false
	if exists {
		now, ok, err := resolveTag(ctx, b.db.Read(), p.owner.DID, rows[0])
		if err != nil {
			return nil, err
		}
		if ok && now.RKey == m.RKey && now.Digest == m.Digest {
			return nil, nil
		}
		rkey, extra = rows[0].RKey, rows[0].Extra
	} else if exists, err = tagKeyTaken(ctx, b.db.Read(), p.owner.DID, rkey); err != nil {
		return nil, err
	} else if exists { // by another pair
		rkey = atcr.TagRKeyClash(p.repository, tag)
		if exists, err = tagKeyTaken(ctx, b.db.Read(), p.owner.DID, rkey); err != nil {
			return nil, err
		}
		extra = exists
	}
	var value atcr.Tag
	if extra || retry {
		if exists, err = b.recordNow(ctx, p.owner, atcr.NSIDTag, rkey, &value); err != nil {
			return nil, err
		}
	}
	op := opCreate
	if exists {
		op = opUpdate
	}
	value.Repository, value.Tag = p.repository, tag
	now := b.clock()
	value.Point(atcr.URI{DID: p.owner.DID, Collection: atcr.NSIDManifest, RKey: m.RKey}, p.manifest.Digest, p.manifest.MediaType, now)
	cid, err := cidOf(&value)
	if err != nil {
		return nil, err
	}
	t, err := tagOf(p.owner.DID, rkey, cid, &value)
	if err != nil {
		return nil, registry.ErrTagInvalid.With("the tag can't be written as a record: %v", err)
	}
	out := []planned{{write: write{Type: op, Collection: atcr.NSIDTag, RKey: rkey, Value: &value}, tag: &t}}
	for _, other := range rows {
		if other.RKey != rkey && other.Stamp >= t.Stamp {
			out = append(out, planned{write: write{Type: opDelete, Collection: atcr.NSIDTag, RKey: other.RKey}})
		}
	}
	return out, nil
}

func tagKeyTaken(ctx context.Context, q querier, owner, rkey string) (bool, error) {
	_, ok, err := found(scanTag(q.QueryRowContext(ctx, `select `+tagColumns+` from pds_tag where owner = $1 and rkey = $2`, owner, rkey)))
	return ok, err
}

// recordNow reads a record as it is at the PDS into out. One that can't be read counts as there, with nothing to keep.
func (b *Backend) recordNow(ctx context.Context, o owner, collection, rkey string, out atcr.Record) (bool, error) {
	rec, err := b.servers.of(o).getRecord(ctx, o.DID, collection, rkey)
	if errors.Is(err, errNoRecord) {
		return false, nil
	}
	if err != nil {
		return false, goneOr(err)
	}
	if err := json.Unmarshal(rec.Value, out); err != nil {
		b.lister.skip(o.DID, collection, rkey, err)
	}
	return true, nil
}

// cidOf returns the CID that a record will have; empty when foreign fields of an older one keep us from telling.
func cidOf(r atcr.Record) (string, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode a record: %w", err)
	}
	block, err := repo.RecordFromJSON(raw)
	if err != nil {
		return "", nil // the PDS will say what it thinks of it
	}
	return repo.RecordCID(block).String(), nil
}
