package pds

import (
	"context"

	"github.com/atcr-dev/atcr/registry/pds/internal/settle"
)

// SessionsInUse returns the sessions of an account (a DID) that its open uploads, pushes and deletes act by. Whoever keeps sessions
// should not drop them for want of room.
func (b *Backend) SessionsInUse(ctx context.Context, account string) ([]string, error) {
	return listRows(ctx, b.db.Read(), scanText, `select session from pds_intent where owner = $1 and state in ($2, $3)
		union select session from pds_upload where actor = $1`, account, settle.StateOpen, settle.StateSession)
}
