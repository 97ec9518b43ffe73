package pds

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/internal/oci"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
)

const (
	listChunk   = 500 // rows of a list read at once
	holdsAtOnce = 32  // asked for one reader

	// Of the message for a tag that is missing: how many others it names, of how many, and how long their holds may take.
	namesMax    = 5
	namesFrom   = 50
	namesWithin = 2 * time.Second
)

const (
	queryNextHold = `select min(hold) from pds_manifest where owner = $1 and repository = $2 and hold > $3`
	// A tag's hold is that of the record its at-uri names, else of the digest in its old field; it is empty when the tag dangles.
	queryTagPage = `select t.tag, coalesce(
		(select m.hold from pds_manifest m where m.owner = t.owner and m.rkey = t.manifest_rkey and m.repository = t.repository),
		(select m.hold from pds_manifest m where m.owner = t.owner and m.repository = t.repository and m.digest = t.digest limit 1), '')
		from pds_tag t where t.owner = $1 and t.repository = $2 and t.tag > $3 order by t.tag limit $4`
	queryTaggedIndexes = `select min(t.tag), m.digest, m.media_type, b.body from pds_manifest m join pds_tag t on t.owner = m.owner
		and t.repository = m.repository and (t.manifest_rkey = m.rkey or t.manifest_rkey = '' and t.digest = m.digest)
		join pds_bytes b on b.digest = m.digest
		where m.owner = $1 and m.repository = $2 and m.media_type in ($3, $4) group by m.digest, m.media_type, b.body limit 1000`
)

// Manifest returns a manifest from the owner's copy and the bytes kept by digest.
func (r *repository) Manifest(ctx context.Context, ref registry.Ref) (registry.Manifest, error) {
	v, err := r.reader(ctx)
	if err != nil {
		return registry.Manifest{}, err
	}
	v, row, err := r.believed(ctx, v, func() (manifestRow, *tagRow, error) { return r.find(ctx, v.DID, ref) })
	if err != nil {
		return registry.Manifest{}, err
	}
	m, err := r.b.bodies.manifest(ctx, v.owner, row)
	m.Warning = v.Warning
	m.Pulled = func() { r.b.pulls.Count(r.actor, v.DID, r.name, row.Digest) }
	return m, err
}

// find looks a manifest up in the copy, by way of a tag when there is one.
func (r *repository) find(ctx context.Context, did string, ref registry.Ref) (m manifestRow, tag *tagRow, err error) {
	q, ok := r.b.reads, false
	if ref.Tag == "" {
		m, ok, err = manifestByDigest(ctx, q, did, r.name, ref.Digest)
	} else {
		var t tagRow
		if t, ok, err = tagByName(ctx, q, did, r.name, ref.Tag); ok {
			tag = &t
			m, ok, err = resolveTag(ctx, q, did, t)
		}
	}
	if err == nil && !ok {
		err = r.unknown(ctx, did, r.missing(ctx, did, ref))
	}
	return m, tag, err
}

// missing is the error for a manifest that the repository does not have. It names some tags that there are, as far as the actor may
// see them.
func (r *repository) missing(ctx context.Context, did string, ref registry.Ref) error {
	if ref.Tag == "" {
		return registry.ErrManifestUnknown.With("%s/%s has no manifest %s", r.id, r.name, ref.Digest)
	}
	ctx, cancel := context.WithTimeout(ctx, namesWithin)
	defer cancel()
	var names []string
	if allowed, _, err := r.readable(ctx, did); err == nil {
		names, _, _ = r.tagPage(ctx, did, "", namesFrom, allowed) // the message does without
	}
	text := fmt.Sprintf("%s/%s has no tag %s", r.id, r.name, clip(ref.Tag))
	switch n := len(names); {
	case n > namesMax:
		text += "; it has " + strings.Join(names[:namesMax], ", ") + " and others"
	case n > 0:
		text += "; it has " + strings.Join(names, ", ")
	}
	return registry.ErrManifestUnknown.With("%s", text)
}

// Parents implements registry.Repository, for the owner: the newest tags' indexes as far as their bytes are known here.
func (r *repository) Parents(ctx context.Context, d digest.Digest) ([]registry.Parent, error) {
	ctx, cancel := context.WithTimeout(ctx, namesWithin)
	defer cancel()
	v, err := r.reader(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := r.b.db.Read().QueryContext(ctx, queryTaggedIndexes, v.DID, r.name,
		ocispec.MediaTypeImageIndex, oci.MediaTypeDockerManifestList)
	if err != nil {
		return nil, sqlx.Wrap(err)
	}
	defer rows.Close()
	var out []registry.Parent
	for rows.Next() {
		var p registry.Parent
		m := registry.Manifest{}
		if err := rows.Scan(&p.Tag, &p.Digest, &m.MediaType, &m.Bytes); err != nil {
			return out, sqlx.Wrap(err)
		}
		if m.HasChild(d) {
			out = append(out, p)
		}
	}
	return out, sqlx.Wrap(rows.Err())
}

// readable tells which of the holds of a repository the actor may read. Nothing readable is the first hold's refusal.
func (r *repository) readable(ctx context.Context, did string) (allowed map[string]bool, all bool, err error) {
	holds, err := r.b.holdsOf(ctx, did, r.name)
	if err != nil {
		return nil, false, err
	}
	if len(holds) == 0 {
		return nil, false, registry.ErrNameUnknown.With("%s has no repository %s", r.id, r.name)
	}
	allowed, all = map[string]bool{}, true
	var refused error
	for i, answer := range r.mayRead(ctx, holds) {
		err := <-answer
		if err == nil {
			allowed[holds[i]] = true
			continue
		}
		all = false
		if refused == nil || errors.Is(refused, registry.ErrUnavailable) {
			refused = err
		}
	}
	if len(allowed) == 0 {
		return nil, false, refused
	}
	return allowed, all, nil
}

// mayRead asks several holds at a time: each may be silent, and whoever needs no more of the answers need not wait for it.
func (r *repository) mayRead(ctx context.Context, holds []string) []chan error {
	answers := make([]chan error, len(holds))
	places := make(chan struct{}, holdsAtOnce)
	for i, h := range holds {
		answers[i] = make(chan error, 1)
		go func() {
			places <- struct{}{}
			answers[i] <- r.b.holds.MayRead(ctx, r.actor, h)
			<-places
		}()
	}
	return answers
}

// holdsOf lists the holds that the manifests of a repository name, at most a hundred, one look into the index for each.
func (b *Backend) holdsOf(ctx context.Context, did, repository string) ([]string, error) {
	var out []string
	for last := ""; len(out) < 100; {
		var next sql.NullString
		if err := b.db.Read().QueryRowContext(ctx, queryNextHold, did, repository, last).Scan(&next); err != nil {
			return nil, sqlx.Wrap(err)
		}
		if !next.Valid {
			break
		}
		last = next.String
		out = append(out, last)
	}
	return out, nil
}

// Tags lists the tags whose manifests the actor may read.
func (r *repository) Tags(ctx context.Context, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		v, err := r.reader(ctx)
		if err != nil {
			yield("", err)
			return
		}
		allowed, _, err := r.readable(ctx, v.DID)
		if err != nil {
			yield("", err)
			return
		}
		for {
			page, last, err := r.tagPage(ctx, v.DID, after, listChunk, allowed)
			if err != nil {
				yield("", err)
				return
			}
			for _, tag := range page {
				if !yield(tag, nil) {
					return
				}
			}
			if last == "" {
				return
			}
			after = last
		}
	}
}

// tagPage reads a page of tags in byte order; last is where the next begins, empty at the end.
func (r *repository) tagPage(
	ctx context.Context, did, after string, limit int, allowed map[string]bool,
) (page []string, last string, err error) {
	rows, err := r.b.db.Read().QueryContext(ctx, queryTagPage, did, r.name, after, limit)
	if err != nil {
		return nil, "", sqlx.Wrap(err)
	}
	defer rows.Close()
	n, before := 0, ""
	for rows.Next() {
		var tag, hold string
		if err := rows.Scan(&tag, &hold); err != nil {
			return nil, "", sqlx.Wrap(err)
		}
		n++
		last = tag
		if allowed[hold] && tag != before {
			page, before = append(page, tag), tag
		}
	}
	if n < limit {
		last = ""
	}
	return page, last, sqlx.Wrap(rows.Err())
}

// Referrers lists manifests by the subject that their records name.
func (r *repository) Referrers(
	ctx context.Context, d digest.Digest, artifactType string, after digest.Digest,
) iter.Seq2[ocispec.Descriptor, error] {
	return func(yield func(ocispec.Descriptor, error) bool) {
		v, err := r.reader(ctx)
		if err != nil {
			yield(ocispec.Descriptor{}, err)
			return
		}
		allowed, _, err := r.readable(ctx, v.DID)
		if errors.Is(err, registry.ErrNameUnknown) {
			return // nothing refers to it
		}
		if err != nil {
			yield(ocispec.Descriptor{}, err)
			return
		}
		for {
			page, err := r.referrerPage(ctx, v.DID, d, after)
			if err != nil {
				yield(ocispec.Descriptor{}, err)
				return
			}
			for _, m := range page {
				if m.Digest == after || !allowed[m.Hold] {
					continue
				}
				after = m.Digest
				desc, ok, err := r.referrer(ctx, v, m, d)
				if err != nil {
					yield(ocispec.Descriptor{}, err)
					return
				}
				if ok && (artifactType == "" || desc.ArtifactType == artifactType) && !yield(desc, nil) {
					return
				}
			}
			if len(page) < listChunk {
				return
			}
			after = page[len(page)-1].Digest
		}
	}
}

func (r *repository) referrerPage(ctx context.Context, did string, subject, after digest.Digest) ([]manifestRow, error) {
	return listRows(ctx, r.b.db.Read(), scanManifest, `select `+manifestColumns+` from pds_manifest
		where owner = $1 and repository = $2 and subject = $3 and digest > $4 order by digest limit $5`,
		did, r.name, string(subject), string(after), listChunk)
}

// referrer describes one referrer from its bytes; a record that can't be served is no referrer.
func (r *repository) referrer(ctx context.Context, v view, m manifestRow, subject digest.Digest) (ocispec.Descriptor, bool, error) {
	v, m, err := r.believed(ctx, v, func() (manifestRow, *tagRow, error) {
		now, ok, err := manifestByKey(ctx, r.b.reads, v.DID, m.RKey)
		if err == nil && (!ok || now.Repository != r.name || now.Digest != m.Digest) {
			err = registry.ErrManifestUnknown
		}
		return now, nil, err
	})
	var served registry.Manifest
	if err == nil {
		served, err = r.b.bodies.manifest(ctx, v.owner, m)
	}
	if errors.Is(err, registry.ErrManifestUnknown) {
		return ocispec.Descriptor{}, false, nil
	}
	if err != nil {
		return ocispec.Descriptor{}, false, err
	}
	p, err := registry.ParseManifest(served.MediaType, served.Bytes, m.Digest)
	if err != nil || p.Subject == nil || p.Subject.Digest != subject {
		return ocispec.Descriptor{}, false, nil // the record is an index of the bytes; they say otherwise
	}
	return p.Referrer(), true, nil
}
