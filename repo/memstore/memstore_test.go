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
