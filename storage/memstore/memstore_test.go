package memstore_test

import (
	"testing"

	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/memstore"
	"github.com/atcr-dev/atcr/storage/storagetest"
)

func TestSuite(t *testing.T) {
	storagetest.Run(t, storagetest.Config{
		Open: func() (storage.Store, error) { return memstore.New(), nil },
		Small: func(limit int64) (storage.Store, error) {
			return memstore.NewWith(&memstore.Options{Limit: limit}), nil
		},
	})
}
