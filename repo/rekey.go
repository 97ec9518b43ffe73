package repo

import (
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// signer is the key that signs commits.
type signer struct {
	key atcrypto.PrivateKey
	pub atcrypto.PublicKey
}

func newSigner(key atcrypto.PrivateKey) (*signer, error) {
	if key == nil {
		return nil, fmt.Errorf("%w: Key is missing", ErrInvalidOptions)
	}
	pub, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("%w: Key: %w", ErrInvalidOptions, err)
	}
	return &signer{key: key, pub: pub}, nil
}

// Rekey makes key the signing key while the repository is open: in one transaction an #identity event and then an empty commit
// signed by the new key, as [Repo.Resign] writes them. Commits that come before it in the writer's order are signed by the old
// key, all later ones by the new one. That is of this Repo: another process that opened the same repository signs with its
// own key. Call it when the DID document shows the new key, and not before. handle stands in the event; it may be empty.
//
// After an error of ctx, [ErrInvalidOptions] or [ErrClosed] nothing has changed. After each other one (those of Apply) the commit is
// missing, but the new key signs all the same, since the document names it, and the next transaction writes the event first. A
// process that ends before that makes up for it by Open with the new key and Resign.
func (r *Repo) Rekey(ctx context.Context, key atcrypto.PrivateKey, handle string) (Commit, error) {
	next, err := newSigner(key)
	req := newRequest(ctx)
	if err == nil {
		req.identity, req.rekey = &identityEvent{handle: handle}, next
		err = r.submit(ctx, req)
	}
	if err != nil {
		return Commit{}, fmt.Errorf("give %s a new signing key: %w", r.did, err)
	}
	return req.commit, nil
}

// adopt takes a request's key over when its transaction has ended, well or not. A request with an error of its own was not worked on.
func (r *Repo) adopt(req *request, failed bool) {
	if req.rekey == nil || req.err != nil {
		return
	}
	r.signs.Store(req.rekey)
	if failed {
		r.owed = req.identity
	}
}
