package memstore_test

import (
	"testing"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

func TestStore(t *testing.T) {
	repotest.Store(t, func(*testing.T) repo.Store { return memstore.New() })
}

// wrapped is a store as others wrap one; it says that it is shared, and two repositories over it do share it.
type wrapped struct{ repo.Store }

func (wrapped) Shared() bool { return true }

// TestShared: a repository finds what another one wrote, whatever stands between it and the store.
func TestShared(t *testing.T) {
	repotest.Store(t, func(*testing.T) repo.Store { return wrapped{memstore.New()} })
}
