package owndriver

import (
	"testing"

	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/storagetest"
)

func TestDriver(t *testing.T) {
	storagetest.Run(t, storagetest.Config{
		Open: func() (storage.Store, error) { return Open(t.TempDir()) },
		// What a killed process leaves is what another finds in the folder.
		Crash: func(s storage.Store) (storage.Store, error) { return Open(s.(*Driver).dir) },
	})
}
