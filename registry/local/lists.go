package local

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/oci"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/repo"
)

// tagKey is the key of a tag's record. Neither name nor tag can have a ':', so that the tags of a repository are a range.
func tagKey(repository, tag string) string { return atcr.TagRKeyClash(repository, tag) }

// Tags implements registry.Repository.
func (r *repository) Tags(ctx context.Context, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if !r.b.names.has(r.name) {
			yield("", registry.ErrNameUnknown)
			return
		}
		for rec, err := range r.tagRecords(ctx, after) {
			if err != nil {
				yield("", wire(err))
				return
			}
			if !yield(rec.RKey[len(tagKey(r.name, "")):], nil) {
				return
			}
		}
	}
}

// tagRecords are the records of the repository's tags, from the first after a tag.
func (r *repository) tagRecords(ctx context.Context, after string) iter.Seq2[repo.Record, error] {
	return records(ctx, r.b.repo, atcr.NSIDTag, tagKey(r.name, ""), after)
}

// records lists those records whose key begins with prefix, from the first after prefix+after.
func records(ctx context.Context, r *repo.Repo, collection, prefix, after string) iter.Seq2[repo.Record, error] {
	return func(yield func(repo.Record, error) bool) {
		for rec, err := range r.List(ctx, collection, prefix+after, false) {
			if err != nil {
				yield(repo.Record{}, err)
				return
			}
			if !strings.HasPrefix(rec.RKey, prefix) || !yield(rec, nil) {
				return
			}
		}
	}
}

// tagsOf returns the tags that point to the manifest record of a key.
func (r *repository) tagsOf(ctx context.Context, manifestKey string) ([]string, error) {
	var tags []string
	uri := atcr.URI{DID: r.b.repo.DID(), Collection: atcr.NSIDManifest, RKey: manifestKey}.String()
	for rec, err := range r.tagRecords(ctx, "") {
		if err != nil {
			return nil, err
		}
		// Decoding each of a hundred thousand takes long; the text of the URI stands in those that matter.
		if !bytes.Contains(rec.Value, []byte(uri)) {
			continue
		}
		t, err := decodeTag(rec)
		if err != nil {
			return nil, err
		}
		if t.Manifest == uri {
			tags = append(tags, t.Tag)
		}
	}
	return tags, nil
}

// Parents implements registry.Repository. A repository may have very many tags: it looks for two seconds.
func (r *repository) Parents(ctx context.Context, d digest.Digest) ([]registry.Parent, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var out []registry.Parent
	seen := map[digest.Digest]bool{}
	for rec, err := range r.tagRecords(ctx, "") {
		if err != nil {
			return out, wire(err)
		}
		// The media type stands in the record, as in tagsOf.
		if !bytes.Contains(rec.Value, []byte(ocispec.MediaTypeImageIndex)) &&
			!bytes.Contains(rec.Value, []byte(oci.MediaTypeDockerManifestList)) {
			continue
		}
		t, err := decodeTag(rec)
		if err != nil {
			return out, wire(err)
		}
		_, index := t.Target()
		if seen[index] {
			continue
		}
		seen[index] = true
		m, err := r.manifest(ctx, index)
		if errors.Is(err, repo.ErrNotFound) {
			continue
		}
		if err != nil {
			return out, wire(err)
		}
		if m.HasChild(d) {
			out = append(out, registry.Parent{Digest: index, Tag: t.Tag})
		}
	}
	return out, nil
}

func decodeTag(rec repo.Record) (*atcr.Tag, error) {
	data, err := rec.JSON()
	if err != nil {
		return nil, err
	}
	t := &atcr.Tag{}
	return t, t.UnmarshalJSON(data)
}

// nsidReferrer is the collection of our own that makes a list of referrers a range of keys.
const nsidReferrer = "io.atcr.local.referrer"

// referrer is its record. Annotations are not in it: they may be long, and the manifest has them.
type referrer struct {
	Type         string `json:"$type"`
	Repository   string `json:"repository"`
	Subject      string `json:"subject"`
	Digest       string `json:"digest"`
	ArtifactType string `json:"artifactType,omitempty"`
}

// referrerKey is a hash of repository and subject, then the referrer's digest: keys have no room for two of sha512.
func referrerKey(repository string, subject, d digest.Digest) string {
	return referrerPrefix(repository, subject) + d.String()
}

func referrerPrefix(repository string, subject digest.Digest) string {
	sum := sha256.Sum256([]byte(repository + "@" + subject.String()))
	return hex.EncodeToString(sum[:16]) + ":"
}

func referrerWrite(repository string, m registry.ParsedManifest) (repo.Write, error) {
	value, err := repo.RecordFrom(referrer{
		Type: nsidReferrer, Repository: repository, Subject: m.Subject.Digest.String(), Digest: m.Digest.String(),
		ArtifactType: m.Referrer().ArtifactType,
	})
	if err != nil {
		return repo.Write{}, fmt.Errorf("record %s of %s: %w", nsidReferrer, repository, err)
	}
	key := referrerKey(repository, m.Subject.Digest, m.Digest)
	return repo.Write{Action: repo.Put, Collection: nsidReferrer, RKey: key, Record: value}, nil
}

// Referrers implements registry.Repository.
func (r *repository) Referrers(
	ctx context.Context, d digest.Digest, artifactType string, after digest.Digest,
) iter.Seq2[ocispec.Descriptor, error] {
	return func(yield func(ocispec.Descriptor, error) bool) {
		prefix := referrerPrefix(r.name, d)
		for rec, err := range records(ctx, r.b.repo, nsidReferrer, prefix, after.String()) {
			if err != nil {
				yield(ocispec.Descriptor{}, wire(err))
				return
			}
			entry, err := r.referrer(ctx, rec, artifactType)
			if errors.Is(err, repo.ErrNotFound) {
				continue // of another kind, or deleted since
			}
			if !yield(entry, wire(err)) || err != nil {
				return
			}
		}
	}
}

func (r *repository) referrer(ctx context.Context, rec repo.Record, artifactType string) (ocispec.Descriptor, error) {
	data, err := rec.JSON()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var e referrer
	if err := json.Unmarshal(data, &e); err != nil {
		return ocispec.Descriptor{}, err
	}
	if artifactType != "" && artifactType != e.ArtifactType {
		return ocispec.Descriptor{}, repo.ErrNotFound
	}
	m, err := r.manifest(ctx, digest.Digest(e.Digest))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	parsed, err := registry.ParseManifest(m.MediaType, m.Bytes, m.Digest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return parsed.Referrer(), nil
}
