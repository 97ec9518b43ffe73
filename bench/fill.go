package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/local"
	records "github.com/atcr-dev/atcr/repo"
)

// refill stops our servers, gives their folders the many tags, and starts them again: so the rows before are about a small
// repository.
func (b *bench) refill(ctx context.Context) error {
	for name, s := range b.servers {
		if s.program == "" || s.filled {
			continue
		}
		fmt.Fprintf(os.Stderr, "filling the repository of %s with tags…\n", name)
		if b.Against != "" { // a program of before can't open what this one writes
			if err := b.pushTags(ctx, s); err != nil {
				return err
			}
			continue
		}
		_, peak := s.memory()
		if err := s.stop(); err != nil {
			return err
		}
		if err := b.fillOurs(ctx, s.data); err != nil {
			return err
		}
		again, err := startRegistry(ctx, name, s.program, s.data)
		if err != nil {
			return err
		}
		again.idle, again.before = s.idle, peak
		b.servers[name] = again
	}
	return nil
}

// pushTags pushes the many manifests, each with its tag: minutes for 100 000.
func (b *bench) pushTags(ctx context.Context, s *server) error {
	s.filled = true
	if err := pushImageTo(ctx, s, fullRepo); err != nil {
		return err
	}
	p := newPusher(s)
	defer p.close()
	config, layer := sizedBlob(configSize), sizedBlob(layerSize)
	_, err := timed(16, b.scale(b.config.tags), func(_, i int) error {
		return p.putManifest(ctx, fullRepo, fmt.Sprintf("full-%06d", i), manifest(config, layer, i+1))
	})
	return err
}

// fillOurs writes the many manifests, each with its tag, into the folder that the server will have: the same records as
// pushes would, but some thousand in a commit, since one push after the other takes minutes.
func (b *bench) fillOurs(ctx context.Context, data string) (err error) {
	backend, err := local.Open(ctx, data)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := backend.Close(); err == nil {
			err = cerr
		}
	}()
	config, layer := sizedBlob(configSize), sizedBlob(layerSize)
	now := time.Now()
	var writes []records.Write
	put := func(key string, rec atcr.Record, blobs ...records.Blob) error {
		value, err := records.RecordFrom(rec)
		writes = append(writes, records.Write{Action: records.Create, Collection: rec.NSID(), RKey: key, Record: value, Blobs: blobs})
		return err
	}
	tags := b.scale(b.config.tags)
	for i := range tags {
		body := manifest(config, layer, i+1) // 0 is in the other repository
		m, err := registry.ParseManifest(manifestType, body, "")
		if err != nil {
			return err
		}
		record := atcr.NewManifest(atcr.ManifestInput{
			Repository: fullRepo, Digest: m.Digest, MediaType: m.MediaType, SchemaVersion: m.SchemaVersion,
			Config: m.Config, Layers: m.Layers,
			Annotations: m.Annotations, CreatedAt: now,
			Blob: &atcr.Blob{CID: records.BlobCID(body).String(), MimeType: m.MediaType, Size: int64(len(body))},
		})
		if err := put(atcr.ManifestRKey(m.Digest), record, records.Blob{MediaType: m.MediaType, Data: body}); err != nil {
			return err
		}
		tag := fmt.Sprintf("full-%06d", i)
		uri := atcr.URI{DID: backend.DID(), Collection: atcr.NSIDManifest, RKey: atcr.ManifestRKey(m.Digest)}
		if err := put(atcr.TagRKeyClash(fullRepo, tag), atcr.NewTag(fullRepo, tag, uri, m.Digest, m.MediaType, now)); err != nil {
			return err
		}
		if len(writes) >= 5000 || i == tags-1 {
			if _, err := backend.Repo().Apply(ctx, writes); err != nil {
				return err
			}
			writes = writes[:0]
		}
	}
	return nil
}
