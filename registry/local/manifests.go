package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/repo"
)

// Manifest implements registry.Repository.
func (r *repository) Manifest(ctx context.Context, ref registry.Ref) (registry.Manifest, error) {
	d := ref.Digest
	if ref.Tag != "" {
		var err error
		if d, err = r.resolve(ctx, ref.Tag); err != nil {
			return registry.Manifest{}, r.wire(err)
		}
	}
	m, err := r.manifest(ctx, d)
	return m, r.wire(err)
}

// resolve returns what a tag points to.
func (r *repository) resolve(ctx context.Context, tag string) (digest.Digest, error) {
	key := tagEntry(r.name, tag)
	e, ticket := r.b.cache.get(key)
	if e != nil {
		return e.digest, nil
	}
	t, err := get[atcr.Tag](ctx, r.b.repo, atcr.NSIDTag, tagKey(r.name, tag))
	if err != nil {
		return "", err
	}
	_, d := t.Target()
	r.b.cache.put(&cacheEntry{key: key, digest: d}, ticket)
	return d, nil
}

// manifest returns the manifest of a digest.
func (r *repository) manifest(ctx context.Context, d digest.Digest) (registry.Manifest, error) {
	key := manifestEntry(r.name, d)
	e, ticket := r.b.cache.get(key)
	if e != nil {
		return e.manifest, nil
	}
	rec, _, err := r.findManifest(ctx, d)
	if err != nil {
		return registry.Manifest{}, err
	}
	if rec == nil {
		return registry.Manifest{}, repo.ErrNotFound
	}
	if rec.ManifestBlob == nil {
		return registry.Manifest{}, fmt.Errorf("manifest record %s of %s has no blob", d, r.name)
	}
	cid, err := repo.ParseCID(rec.ManifestBlob.CID)
	if err != nil {
		return registry.Manifest{}, err
	}
	blob, err := r.b.repo.GetBlob(ctx, cid)
	if err != nil {
		return registry.Manifest{}, fmt.Errorf("bytes of manifest %s of %s: %w", d, r.name, err)
	}
	m := registry.Manifest{Digest: d, MediaType: rec.MediaType, Bytes: blob.Data}.Prepared()
	r.b.cache.put(&cacheEntry{key: key, manifest: m}, ticket)
	return m, nil
}

// findManifest returns the record of a manifest in this repository and its key, or nil and the key that a new one gets. The
// first repository to have a digest has its plain key.
func (r *repository) findManifest(ctx context.Context, d digest.Digest) (*atcr.Manifest, string, error) {
	free := ""
	for _, key := range []string{atcr.ManifestRKey(d), atcr.ManifestRKeyIn(r.name, d)} {
		m, err := get[atcr.Manifest](ctx, r.b.repo, atcr.NSIDManifest, key)
		switch {
		case errors.Is(err, repo.ErrNotFound):
			if free == "" {
				free = key
			}
		case err != nil:
			return nil, "", err
		case m.Repository == r.name && m.Digest == d.String():
			return m, key, nil
		}
	}
	return nil, free, nil
}

// wire gives an error its kind: a record that isn't there is an unknown manifest, or an unknown repository.
func (r *repository) wire(err error) error {
	if errors.Is(err, repo.ErrNotFound) {
		if !r.b.names.has(r.name) {
			return registry.ErrNameUnknown
		}
		return registry.ErrManifestUnknown
	}
	return wire(err)
}

// DeleteTag implements registry.Repository.
func (r *repository) DeleteTag(ctx context.Context, tag string) error {
	_, err := r.b.repo.Apply(ctx, []repo.Write{{Action: repo.Delete, Collection: atcr.NSIDTag, RKey: tagKey(r.name, tag)}})
	r.b.cache.drop(tagEntry(r.name, tag))
	return r.wire(err)
}

// DeleteManifest implements registry.Repository.
func (r *repository) DeleteManifest(ctx context.Context, d digest.Digest) error {
	r.b.gate.Lock()
	defer r.b.gate.Unlock()
	rec, key, err := r.findManifest(ctx, d)
	if err == nil && rec == nil {
		err = repo.ErrNotFound
	}
	if err != nil {
		return r.wire(err)
	}
	tags, err := r.tagsOf(ctx, key)
	if err != nil {
		return r.wire(err)
	}
	var writes []repo.Write
	for _, tag := range tags {
		writes = append(writes, repo.Write{Action: repo.Delete, Collection: atcr.NSIDTag, RKey: tagKey(r.name, tag)})
	}
	if rec.Subject != nil {
		key := referrerKey(r.name, digest.Digest(rec.Subject.Digest), d)
		writes = append(writes, repo.Write{Action: repo.Delete, Collection: nsidReferrer, RKey: key})
	}
	// The manifest goes in the last batch: a crash between two leaves a manifest with fewer tags, never a tag without one.
	writes = append(writes, repo.Write{Action: repo.Delete, Collection: atcr.NSIDManifest, RKey: key})
	for len(writes) > 0 && err == nil {
		n := min(len(writes), repo.MaxWrites)
		_, err = r.b.repo.Apply(ctx, writes[:n])
		writes = writes[n:]
	}
	for _, tag := range tags {
		r.b.cache.drop(tagEntry(r.name, tag))
	}
	r.b.cache.drop(manifestEntry(r.name, d))
	return r.wire(err)
}

// get reads a record of a known type.
func get[T any, P interface {
	*T
	json.Unmarshaler
}](ctx context.Context, r *repo.Repo, collection, key string) (*T, error) {
	rec, err := r.Get(ctx, collection, key)
	if err != nil {
		return nil, err
	}
	data, err := rec.JSON()
	if err != nil {
		return nil, err
	}
	out := new(T)
	if err := P(out).UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("record %s/%s: %w", collection, key, err)
	}
	return out, nil
}
