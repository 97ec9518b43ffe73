package local

import (
	"errors"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/room"
	"github.com/atcr-dev/atcr/internal/sqlx"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/storage"
)

// ErrLocked: another process has the folder; the error's text names its pid.
var ErrLocked = durable.ErrLocked

// kinds says what errors of the repository, the store and the database are to a client.
var kinds = []struct {
	is   error
	wire *registry.Error
}{
	{room.ErrFull, registry.ErrNoSpace},
	{storage.ErrNoSpace, registry.ErrNoSpace},
	{repo.ErrNoSpace, registry.ErrNoSpace},
	{sqlx.ErrNoSpace, registry.ErrNoSpace},
	{storage.ErrDigestMismatch, registry.ErrDigestInvalid},
	{storage.ErrDigestInvalid, registry.ErrDigestInvalid},
	{storage.ErrUploadUnknown, registry.ErrUploadUnknown},
	{storage.ErrUploadBusy, registry.ErrUploadBusy},
	{storage.ErrNotFound, registry.ErrBlobUnknown},
	{repo.ErrBusy, registry.ErrUnavailable},
	{sqlx.ErrBusy, registry.ErrUnavailable},
	{repo.ErrClosed, registry.ErrUnavailable},
	{repo.ErrTooLarge, registry.ErrManifestTooLarge},
}

// wire gives an error its kind. One that has a kind already, and one that has none, comes back as it is.
func wire(err error) error {
	var e *registry.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	for _, k := range kinds {
		if errors.Is(err, k.is) {
			return k.wire.Wrap(err)
		}
	}
	return err
}
