package repo

import (
	"context"
	"fmt"
)

const maxGroup = 64

type request struct{}

func (r *Repo) write() { close(r.done) }

func (r *Repo) create(ctx context.Context) error { return nil }

func invalidSwap(what string, is, want CID) error {
	return fmt.Errorf("%w: the %s is %s, not %s", ErrInvalidSwap, what, is, want)
}

type nodeCache struct{}

const nodeCacheSize = 4096

func newNodeCache(n int) *nodeCache { return nil }
