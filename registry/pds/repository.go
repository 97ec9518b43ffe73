package pds

import (
	"context"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
)

// repository is one repository as one actor sees it. It costs nothing to make.
type repository struct {
	registry.Unimplemented
	b     *Backend
	actor registry.Actor
	id    string // handle or DID
	name  string // within the identity
}

var (
	_ registry.Backend    = (*Backend)(nil)
	_ registry.Repository = (*repository)(nil)
)

// Repository returns the repository IDENTITY/REPOSITORY. Nothing is asked yet.
func (b *Backend) Repository(_ context.Context, actor registry.Actor, name string) (registry.Repository, error) {
	id, repository_, err := splitName(name)
	if err != nil {
		return nil, err
	}
	if actor.Name != "" {
		id = actor.Name
	}
	return &repository{b: b, actor: actor, id: id, name: repository_}, nil
}

// Repositories returns ErrUnsupported: the repositories of a network have no list here.
func (b *Backend) Repositories(context.Context, registry.Actor, string) iter.Seq2[string, error] {
	return registry.Fail[string](registry.ErrUnsupported.With("this registry has no catalog: " +
		"its repositories are those of all accounts of the AT Protocol. List the tags of one by /v2/HANDLE/REPOSITORY/tags/list"))
}

// DeleteBlob returns ErrUnsupported: layers go when no manifest names them.
func (r *repository) DeleteBlob(context.Context, digest.Digest) error {
	return registry.ErrUnsupported.With("layers go from a hold when no manifest names them: delete the manifest")
}

// reader resolves the owner and makes sure that the copy can be answered from.
func (r *repository) reader(ctx context.Context) (view, error) {
	ctx = r.b.withPayer(ctx, r.actor)
	o, err := r.b.names.owner(ctx, r.id)
	if err != nil {
		return view{}, err
	}
	return r.b.read(ctx, o)
}

// writer resolves the owner, who alone may write.
func (r *repository) writer(ctx context.Context) (owner, error) {
	if r.actor.ID == "" || r.actor.Session == "" {
		return owner{}, registry.ErrUnauthorized.With("sign in to write").WithChallenge(r.actor.Challenge)
	}
	o, err := r.b.names.owner(ctx, r.id)
	if err != nil {
		return o, err
	}
	if o.DID != r.actor.ID {
		return o, registry.ErrDenied.With("%s is not %s: push under your own identity", r.id, r.actor.ID)
	}
	if !o.staleName.IsZero() {
		return o, o.cause
	}
	return o, nil
}

// isOwner reports whether the actor could push here.
func (r *repository) isOwner(o owner) bool {
	return r.actor.ID != "" && r.actor.ID == o.DID && r.actor.Session != ""
}

// unknown is the error for what is missing: the whole repository, or the one thing.
func (r *repository) unknown(ctx context.Context, owner string, thing error) error {
	var n int
	err := r.b.db.Read().QueryRowContext(ctx, `select count(*) from
		(select 1 from pds_manifest where owner = $1 and repository = $2 limit 1) as x`, owner, r.name).Scan(&n)
	if err == nil && n == 0 {
		return registry.ErrNameUnknown.With("%s has no repository %s", r.id, r.name)
	}
	return thing
}
