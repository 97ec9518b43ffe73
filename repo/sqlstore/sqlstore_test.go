package sqlstore_test

import (
	"path/filepath"
	"testing"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/repo/sqlstore"
)

func TestStore(t *testing.T) {
	t.Parallel()
	repotest.Store(t, func(t *testing.T) repo.Store { return openStore(t, filepath.Join(t.TempDir(), "repo.db")) })
}

func openStore(t testing.TB, path string) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
