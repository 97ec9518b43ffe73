package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/repo"
)

// PutManifest implements registry.Repository: one Apply, or none when nothing would change.
func (r *repository) PutManifest(ctx context.Context, m registry.ParsedManifest, tags []string) error {
	r.b.gate.RLock()
	defer r.b.gate.RUnlock()
	if err := r.checkContent(ctx, m); err != nil {
		return err
	}
	// A key that another push took between look and Apply shows as ErrExists: look again.
	for try := 0; ; try++ {
		writes, err := r.pushWrites(ctx, m, tags)
		if err == nil && len(writes) > 0 {
			_, err = r.b.repo.Apply(ctx, writes)
		}
		if errors.Is(err, repo.ErrExists) && try < 5 {
			continue
		}
		for _, tag := range tags {
			r.b.cache.drop(tagEntry(r.name, tag))
		}
		if err != nil {
			return r.b.wire(err)
		}
		r.b.names.add(r.name)
		return nil
	}
}

// checkContent makes sure that what the manifest names is in the repository, in the size that it says.
func (r *repository) checkContent(ctx context.Context, m registry.ParsedManifest) error {
	blobs, manifests := m.MustExist()
	for _, d := range blobs {
		size, ok, err := r.b.blobSize(ctx, r.name, d.Digest)
		if err != nil {
			return wire(err)
		}
		if !ok {
			return unknown("blob", d.Digest)
		}
		if err := m.CheckSize(d, size); err != nil {
			return err
		}
	}
	for _, d := range manifests {
		child, err := r.manifest(ctx, d.Digest)
		if errors.Is(err, repo.ErrNotFound) {
			return unknown("manifest", d.Digest)
		}
		if err != nil {
			return wire(err)
		}
		if err := m.CheckSize(d, int64(len(child.Bytes))); err != nil {
			return err
		}
	}
	return nil
}

func unknown(what string, d digest.Digest) error {
	return registry.ErrManifestBlobUnknown.With("%s %s is not in this repository: push it first", what, d).
		WithDetail(map[string]string{"digest": d.String()})
}

// pushWrites returns what a push has to change.
func (r *repository) pushWrites(ctx context.Context, m registry.ParsedManifest, tags []string) ([]repo.Write, error) {
	now := r.b.opts.Clock()
	var writes []repo.Write
	put := func(action repo.Action, key string, rec atcr.Record, blobs ...repo.Blob) error {
		value, err := repo.RecordFrom(rec)
		if err != nil {
			return fmt.Errorf("record %s of %s: %w", rec.NSID(), r.name, err)
		}
		writes = append(writes, repo.Write{Action: action, Collection: rec.NSID(), RKey: key, Record: value, Blobs: blobs})
		return nil
	}
	have, key, err := r.findManifest(ctx, m.Digest)
	if err != nil {
		return nil, err
	}
	if have == nil {
		if err := put(repo.Create, key, manifestRecord(r.name, m, now), repo.Blob{MediaType: m.MediaType, Data: m.Bytes}); err != nil {
			return nil, err
		}
		if m.Subject != nil {
			w, err := referrerWrite(r.name, m)
			if err != nil {
				return nil, err
			}
			writes = append(writes, w)
		}
	}
	if !r.b.names.has(r.name) {
		at := atcr.NewDatetime(now)
		if err := put(repo.Put, atcr.RepoPageRKey(r.name), &atcr.RepoPage{Repository: r.name, CreatedAt: at, UpdatedAt: at}); err != nil {
			return nil, err
		}
	}
	uri := atcr.URI{DID: r.b.repo.DID(), Collection: atcr.NSIDManifest, RKey: key}
	for _, tag := range tags {
		t, err := get[atcr.Tag](ctx, r.b.repo, atcr.NSIDTag, tagKey(r.name, tag))
		switch {
		case errors.Is(err, repo.ErrNotFound):
			t = atcr.NewTag(r.name, tag, uri, m.Digest, m.MediaType, now)
		case err != nil:
			return nil, err
		case !t.Point(uri, m.Digest, m.MediaType, now):
			continue
		}
		if err := put(repo.Put, tagKey(r.name, tag), t); err != nil {
			return nil, err
		}
	}
	return writes, nil
}

func manifestRecord(repository string, m registry.ParsedManifest, now time.Time) *atcr.Manifest {
	return atcr.NewManifest(atcr.ManifestInput{
		Repository: repository,
		Blob:       &atcr.Blob{CID: repo.BlobCID(m.Bytes).String(), MimeType: m.MediaType, Size: int64(len(m.Bytes))},
		CreatedAt:  now,
		Digest:     m.Digest, MediaType: m.MediaType, SchemaVersion: m.SchemaVersion,
		Config: m.Config, Layers: m.Layers, Manifests: m.Manifests, Subject: m.Subject, Annotations: m.Annotations,
	})
}
