package hold

import (
	"context"
	"database/sql"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/repo"
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

// PutForTest writes a record as another program would have.
func (s *Server) PutForTest(ctx context.Context, collection, rkey string, v map[string]any) error {
	v["$type"] = collection
	value, err := repo.RecordFrom(v)
	if err != nil {
		return err
	}
	_, err = s.apply(ctx, []repo.Write{{Action: repo.Put, Collection: collection, RKey: rkey, Record: value}})
	return err
}
