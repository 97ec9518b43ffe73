package hold

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/internal/ledger"
	"github.com/atcr-dev/atcr/repo"
)

// LeaseForTest takes leases on blobs that need not be here.
func (s *Server) LeaseForTest(did string, digests []digest.Digest) error {
	var blobs []ledger.Blob
	for _, d := range digests {
		blobs = append(blobs, ledger.Blob{Digest: d, Size: 1})
	}
	return s.ledger.Take(context.Background(), did, "app", blobs)
}

// PutForTest writes a record as another program would have.
func (s *Server) PutForTest(ctx context.Context, collection, rkey string, v map[string]any) error {
	v["$type"] = collection
	value, err := repo.RecordFrom(v)
	if err != nil {
		return err
	}
	_, err = s.records.apply(ctx, []repo.Write{{Action: repo.Put, Collection: collection, RKey: rkey, Record: value}})
	return err
}

// SettleForTest reads a user's manifest records as the settling of leases does.
func (s *Server) SettleForTest(ctx context.Context, did string) (asOf time.Time, err error) {
	return s.notices.settlePusher(ctx, did)
}
