// Package repotest checks implementations of repo.Store: run [Store] from a test of yours.
package repotest

import (
	"testing"

	"github.com/atcr-dev/atcr/repo"
)

// Store runs the whole suite. open returns a new, empty store each time; it closes it with t.Cleanup.
func Store(t *testing.T, open func(t *testing.T) repo.Store) {
	t.Run("Rows", func(t *testing.T) { rows(t, open) })
	t.Run("Bulk", func(t *testing.T) { bulk(t, open(t)) })
	t.Run("Import", func(t *testing.T) { imports(t, open(t), open(t)) })
	t.Run("Export", func(t *testing.T) { exports(t, open(t)) })
	t.Run("Apply", func(t *testing.T) { apply(t, open(t)) })
	t.Run("Guards", func(t *testing.T) { guards(t, open(t)) })
	t.Run("Blobs", func(t *testing.T) { blobs(t, open(t)) })
	t.Run("List", func(t *testing.T) { list(t, open(t)) })
	t.Run("Concurrent", func(t *testing.T) { concurrent(t, open(t)) })
	t.Run("Random", func(t *testing.T) { random(t, open(t)) })
	t.Run("Shared", func(t *testing.T) { shared(t, open(t)) })
	t.Run("Reopen", func(t *testing.T) { reopen(t, open(t)) })
}
