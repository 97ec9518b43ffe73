package pds

import (
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/holds"
)

// place is a hold that a blob lies in.
type place struct {
	Hold string
	Size int64 // 0 when the record didn't say
}

// Blob returns from what manifests and uploads told of where blobs lie. For the owner the present hold is asked
// first, which leases the blob: a push that is told "it exists" relies on it.
//
// Whoever sends no token at all is told to get one, an anonymous one at least: clients do, and a link to this registry that somebody
// clicks on then leads nobody to where a hold of untrusted people points.
func (r *repository) Blob(ctx context.Context, d digest.Digest) (registry.Blob, error) {
	if r.actor.NoToken {
		return registry.Blob{}, registry.ErrUnauthorized.With("blobs take a token, of which an anonymous one is enough").
			WithChallenge(r.actor.Challenge)
	}
	v, err := r.reader(ctx)
	if err != nil {
		return registry.Blob{}, err
	}
	owns := r.isOwner(v.owner)
	var asked error
	if owns {
		p, err := r.lease(ctx, v.owner, d)
		if err == nil {
			return r.b.blobAt(ctx, r.actor, v.DID, d, p)
		}
		if ctx.Err() != nil {
			return registry.Blob{}, ctx.Err()
		}
		if !errors.Is(err, registry.ErrBlobUnknown) {
			asked = err
		}
	}
	places, err := r.places(ctx, v.owner, d, owns)
	if err != nil {
		return registry.Blob{}, err
	}
	var refused error
	names := make([]string, len(places))
	for i, p := range places {
		names[i] = p.Hold
	}
	for i, answer := range r.mayRead(ctx, names) {
		if err := <-answer; err != nil {
			refused = errors.Join(refused, err)
			continue
		}
		return r.b.blobAt(ctx, r.actor, v.DID, d, places[i])
	}
	switch {
	case refused != nil:
		return registry.Blob{}, refused
	case asked != nil && !errors.Is(asked, registry.ErrDenied):
		return registry.Blob{}, asked
	}
	return registry.Blob{}, r.unknown(ctx, v.DID, registry.ErrBlobUnknown)
}

// lease asks the owner's present hold for a blob. ErrBlobUnknown: it isn't there.
func (r *repository) lease(ctx context.Context, o owner, d digest.Digest) (place, error) {
	key := o.DID + "/" + r.name + "@" + d.String()
	now := r.b.clock()
	if p, ok := r.b.leased.Get(key, now); ok {
		return p, nil
	}
	hold, err := r.b.presentHold(ctx, o, "")
	if err != nil {
		return place{}, err
	}
	c, err := r.b.holds.As(ctx, hold, r.actor)
	if err != nil {
		return place{}, err
	}
	present, err := c.CheckBlobs(ctx, o.DID, r.name, []digest.Digest{d})
	if err != nil {
		return place{}, holds.Error(hold, err)
	}
	size, ok := present[d]
	if !ok {
		return place{}, registry.ErrBlobUnknown
	}
	p := place{hold, size}
	r.b.leased.Put(key, p, now.Add(holds.RightsFor))
	return p, nil
}

// places finds the holds that a blob of this repository lies in, by its manifests, and for the owner by uploads.
func (r *repository) places(ctx context.Context, o owner, d digest.Digest, owns bool) ([]place, error) {
	found, err := r.b.placesAsked(ctx, o, r.name, d, owns)
	if err != nil || len(found) > 0 {
		return found, err
	}
	// Records that were too large leave their layers to the bytes.
	pending, err := listRows(ctx, r.b.db.Read(), scanManifest, `select `+manifestColumns+` from pds_manifest
		where owner = $1 and repository = $2 and layers_known = 0 limit 1000`, o.DID, r.name)
	if err != nil || len(pending) == 0 {
		return nil, err
	}
	for _, m := range pending {
		if err := r.b.learnLayers(ctx, o, m); err != nil {
			return nil, err
		}
	}
	return r.b.placesOf(ctx, o.DID, r.name, d, owns)
}

func (b *Backend) placesOf(ctx context.Context, owner, repository string, d digest.Digest, uploads bool) ([]place, error) {
	return listRows(ctx, b.db.Read(), scanPlace, `select hold, max(size) from pds_layer
		where owner = $1 and repository = $2 and digest = $3 and (manifest <> '' or $4 = 1)
		group by hold order by max(seen) desc, hold limit 20`, owner, repository, string(d), number(uploads))
}

func scanPlace(row scanner) (p place, err error) {
	err = row.Scan(&p.Hold, &p.Size)
	return p, err
}

// blobAt returns a blob that the actor may read at a hold.
func (b *Backend) blobAt(ctx context.Context, actor registry.Actor, owner string, d digest.Digest, p place) (registry.Blob, error) {
	c, err := b.holds.As(ctx, p.Hold, actor)
	if err != nil {
		return registry.Blob{}, err
	}
	o := holdclient.LocateOptions{Size: p.Size, NoLink: b.redirect == RedirectNever}
	if !o.NoLink {
		anyone, err := b.holds.Rights(ctx, p.Hold, "")
		if err != nil {
			return registry.Blob{}, err
		}
		o.Public = anyone.Public
	}
	at, err := c.Locate(ctx, owner, d, o)
	if err != nil {
		return registry.Blob{}, holds.Error(p.Hold, err)
	}
	return registry.Blob{Digest: d, Size: at.Size, Link: at.Link, Open: func(ctx context.Context, r registry.Range) (io.ReadCloser, error) {
		body, err := at.Open(ctx, r.Start, r.End)
		if err != nil {
			return nil, holds.Error(p.Hold, err)
		}
		return held{body, p.Hold}, nil
	}}, nil
}

// held is a blob that comes from a hold: what goes wrong with it is the hold's doing.
type held struct {
	io.ReadCloser
	hold string
}

func (h held) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = holds.Error(h.hold, err)
	}
	return n, err
}

// Mount makes a blob present that already lies in the hold that pushes go to.
func (r *repository) Mount(ctx context.Context, d digest.Digest, from string) (ocispec.Descriptor, error) {
	o, err := r.writer(ctx)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	hold, err := r.b.presentHold(ctx, o, r.actor.Session)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := r.b.holds.EnsureWriter(ctx, r.actor, hold); err != nil {
		return ocispec.Descriptor{}, err
	}
	if from != "" {
		if ok, err := r.mountable(ctx, d, from, hold); err != nil || !ok {
			// No reason is given: it would tell what exists.
			return ocispec.Descriptor{}, registry.ErrBlobUnknown.Wrap(err)
		}
	}
	p, err := r.lease(ctx, o, d)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if p.Hold != hold {
		return ocispec.Descriptor{}, registry.ErrBlobUnknown
	}
	if err := r.b.rememberUpload(ctx, o.DID, r.name, d, hold, p.Size); err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: p.Size}, nil
}

// mountable reports whether the actor may read a manifest of the other repository that names the blob and lies in hold.
func (r *repository) mountable(ctx context.Context, d digest.Digest, from, hold string) (bool, error) {
	id, name, err := splitName(from)
	if err != nil {
		return false, err
	}
	other := &repository{b: r.b, actor: r.actor, id: id, name: name}
	v, err := other.reader(ctx)
	if err != nil {
		return false, err
	}
	places, err := other.places(ctx, v.owner, d, false)
	if err != nil {
		return false, err
	}
	for _, p := range places {
		if p.Hold == hold {
			return true, r.b.holds.MayRead(ctx, r.actor, hold)
		}
	}
	return false, nil
}
