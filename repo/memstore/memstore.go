// Package memstore is a repo.Store in memory, for tests and programs that keep nothing.
package memstore

import "github.com/atcr-dev/atcr/repo"

// Store keeps one repository in memory. Safe for concurrent use.
type Store struct{}

// New makes an empty store.
func New() *Store { return &Store{} }

var _ = repo.ErrNotFound
