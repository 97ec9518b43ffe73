package pds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/repo"
)

// maxRecord is how large a manifest record may be, as JSON; PDSes differ, all take this.
const maxRecord = 100_000

// push is what one PutManifest wants.
type push struct {
	owner      owner
	repository string
	manifest   registry.ParsedManifest
	tags       []string
	hold       string
	blob       blobRef // zero until it is uploaded
	blobCID    string
}

// current answers the record of the manifest, and whether nothing about it has to change.
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
		rkey = manifestRKey(p.manifest.Digest)
		taken, ok, err := manifestByKey(ctx, b.db.Read(), p.owner.DID, rkey)
		if err != nil {
			return planned{}, err
		}
		if ok && (taken.Repository != p.repository || taken.Digest != p.manifest.Digest) {
			rkey = manifestRKeyOf(p.manifest.Digest, p.repository)
			if _, exists, err = manifestByKey(ctx, b.db.Read(), p.owner.DID, rkey); err != nil {
				return planned{}, err
			}
		}
	}
	value := manifestRecord(p, b.now())
	op := opCreate
	if exists || retry {
		old, found, err := b.recordNow(ctx, p.owner, nsManifest, rkey)
		if err != nil {
			return planned{}, err
		}
		if found {
			op, value = opUpdate, merge(old, value, manifestFields())
		}
	}
	raw, cid, err := encode(value)
	if err != nil {
		return planned{}, err
	}
	m, err := parseManifest(rkey, cid, raw)
	if err != nil {
		return planned{}, registry.ErrManifestInvalid.With("the manifest can't be written as a record: %v", err)
	}
	// The bytes are at hand: they say more than a record that was cut.
	m.Layers, m.LayersKnown = layersOf(p.manifest), true
	return planned{write: write{Type: op, Collection: nsManifest, RKey: rkey, Value: value}, manifest: &m}, nil
}

// planTag points a tag to a manifest's record. Records of the same pair that would count as newer go.
func (b *Backend) planTag(ctx context.Context, p *push, m manifestRow, tag string, retry bool) ([]planned, error) {
	rows, err := tagRecords(ctx, b.db.Read(), p.owner.DID, p.repository, tag)
	if err != nil {
		return nil, err
	}
	rkey, exists, extra := tagRKey(p.repository, tag), len(rows) > 0, false
	if exists {
		now, ok, err := resolveTag(ctx, b.db.Read(), p.owner.DID, rows[0])
		if err != nil {
			return nil, err
		}
		if ok && now.RKey == m.RKey && now.Digest == m.Digest {
			return nil, nil
		}
		rkey, extra = rows[0].RKey, rows[0].Extra
	} else if taken, err := tagKeyTaken(ctx, b.db.Read(), p.owner.DID, rkey); err != nil {
		return nil, err
	} else if taken {
		rkey = tagRKeyOnClash(p.repository, tag)
		if exists, err = tagKeyTaken(ctx, b.db.Read(), p.owner.DID, rkey); err != nil {
			return nil, err
		}
		extra = exists
	}
	value := map[string]any{
		"$type": nsTag, "repository": p.repository, "tag": tag, "manifest": manifestURI(p.owner.DID, m.RKey),
		"mediaType": p.manifest.MediaType, "updatedAt": b.now(),
	}
	op := opCreate
	if exists {
		op = opUpdate
	}
	if extra || retry {
		old, found, err := b.recordNow(ctx, p.owner, nsTag, rkey)
		if err != nil {
			return nil, err
		}
		op = opCreate
		if found {
			op, value = opUpdate, merge(old, value, []string{"repository", "tag", "manifest", "manifestDigest", "mediaType", "updatedAt"})
		}
	}
	raw, cid, err := encode(value)
	if err != nil {
		return nil, err
	}
	t, err := parseTag(p.owner.DID, rkey, cid, raw)
	if err != nil {
		return nil, registry.ErrTagInvalid.With("the tag can't be written as a record: %v", err)
	}
	out := []planned{{write: write{Type: op, Collection: nsTag, RKey: rkey, Value: value}, tag: &t}}
	for _, other := range rows {
		if other.RKey != rkey && other.Stamp >= t.Stamp {
			out = append(out, planned{write: write{Type: opDelete, Collection: nsTag, RKey: other.RKey}})
		}
	}
	return out, nil
}

func tagKeyTaken(ctx context.Context, q querier, owner, rkey string) (bool, error) {
	_, ok, err := found(scanTag(q.QueryRowContext(ctx, `select `+tagColumns+` from pds_tag where owner = $1 and rkey = $2`, owner, rkey)))
	return ok, err
}

// recordNow reads a record as it is at the PDS.
func (b *Backend) recordNow(ctx context.Context, o owner, collection, rkey string) (map[string]any, bool, error) {
	rec, err := b.pdsOf(o).getRecord(ctx, o.DID, collection, rkey)
	if errors.Is(err, errNoRecord) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, goneOr(err)
	}
	old, err := decodeRecord(rec.Value)
	return old, err == nil, err
}

// merge puts our fields over an old record: those that we own and do not set go, all others and createdAt stay.
func merge(old, value map[string]any, own []string) map[string]any {
	out := make(map[string]any, len(old)+len(value))
	for k, v := range old {
		if !slices.Contains(own, k) {
			out[k] = v
		}
	}
	for k, v := range value {
		if _, kept := out[k]; k == "createdAt" && kept {
			continue
		}
		out[k] = v
	}
	return out
}

// encode answers a record's JSON and the CID that it will have.
func encode(value map[string]any) ([]byte, string, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, "", fmt.Errorf("encode a record: %w", err)
	}
	block, err := repo.RecordFromJSON(raw)
	if err != nil {
		return raw, "", nil // a foreign field of an older record; the PDS will say what it thinks of it
	}
	return raw, repo.RecordCID(block).String(), nil
}

func manifestFields() []string {
	return []string{"repository", "digest", "mediaType", "schemaVersion", "config", "layers", "manifests", "subject", "annotations", "holdDid", "holdEndpoint", "manifestBlob"}
}

// manifestRecord makes the record of a manifest. What would make it too large is left out, whole fields at a time:
// manifestBlob is the truth.
func manifestRecord(p *push, now string) map[string]any {
	m := p.manifest
	full := func(layersPlain, noLayers, noManifests, noAnnotations bool) map[string]any {
		out := map[string]any{
			"$type": nsManifest, "repository": p.repository, "digest": m.Digest.String(), "mediaType": m.MediaType,
			"schemaVersion": m.SchemaVersion, "createdAt": now, "holdDid": p.hold, "manifestBlob": p.blob,
		}
		if m.Config != nil {
			out["config"] = reference(*m.Config, layersPlain)
		}
		if m.Subject != nil {
			out["subject"] = reference(*m.Subject, layersPlain)
		}
		if len(m.Layers) > 0 && !noLayers {
			list := make([]any, len(m.Layers))
			for i, l := range m.Layers {
				list[i] = reference(l, layersPlain)
			}
			out["layers"] = list
		}
		if len(m.Manifests) > 0 && !noManifests {
			list := make([]any, len(m.Manifests))
			for i, c := range m.Manifests {
				list[i] = child(c, layersPlain)
			}
			out["manifests"] = list
		}
		if a := cleanMap(m.Annotations); len(a) > 0 && !noAnnotations {
			out["annotations"] = a
		}
		return out
	}
	for _, cut := range [][4]bool{{}, {false, false, false, true}, {true, false, false, true}, {true, true, false, true}} {
		out := full(cut[0], cut[1], cut[2], cut[3])
		if raw, err := json.Marshal(out); err == nil && len(raw) < maxRecord {
			return out
		}
	}
	return full(true, true, true, true)
}

// reference is a descriptor as records have it.
func reference(d ocispec.Descriptor, plain bool) map[string]any {
	out := map[string]any{"mediaType": text(d.MediaType), "size": d.Size, "digest": d.Digest.String()}
	if plain {
		return out
	}
	var urls []any
	for _, u := range d.URLs {
		if utf8.ValidString(u) && u != "" {
			urls = append(urls, u)
		}
	}
	if len(urls) > 0 {
		out["urls"] = urls
	}
	if a := cleanMap(d.Annotations); len(a) > 0 {
		out["annotations"] = a
	}
	return out
}

func child(d ocispec.Descriptor, plain bool) map[string]any {
	out := reference(d, plain)
	p := d.Platform
	if p == nil || p.OS == "" || p.Architecture == "" {
		return out
	}
	platform := map[string]any{"architecture": text(p.Architecture), "os": text(p.OS)}
	if p.OSVersion != "" {
		platform["osVersion"] = text(p.OSVersion)
	}
	if p.Variant != "" {
		platform["variant"] = text(p.Variant)
	}
	if len(p.OSFeatures) > 0 {
		list := make([]any, len(p.OSFeatures))
		for i, f := range p.OSFeatures {
			list[i] = text(f)
		}
		platform["osFeatures"] = list
	}
	out["platform"] = platform
	return out
}

// cleanMap leaves out what the data model of records forbids.
func cleanMap(in map[string]string) map[string]any {
	out := make(map[string]any, len(in))
	for k, v := range in {
		if k != "" && !strings.HasPrefix(k, "$") && utf8.ValidString(k) && utf8.ValidString(v) {
			out[k] = v
		}
	}
	return out
}

func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
