package hold

import (
	"context"
	"database/sql"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

// LeaseForTest takes leases on blobs that need not be here.
func (s *Server) LeaseForTest(did string, digests []digest.Digest) error {
	var blobs []blobSize
	for _, d := range digests {
		blobs = append(blobs, blobSize{d, 1})
	}
	return sqlx.InTx(context.Background(), s.db.Write(), func(tx *sql.Tx) error {
		return s.lease(context.Background(), tx, did, "app", blobs, s.clock())
	})
}
