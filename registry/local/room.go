package local

import (
	"context"
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr/internal/room"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/storage"
)

// makeRoom is called when the disk is nearly full: an upload that nobody works on goes, of the account whose uploads take the most the
// oldest and largest. Its client begins anew.
func (b *Backend) makeRoom(ctx context.Context, account string) (freed int64, err error) {
	var list []room.Thing
	for info, err := range b.store.Uploads(ctx, "") {
		if err != nil {
			return 0, fmt.Errorf("list uploads: %w", err)
		}
		list = append(list, room.Thing{ID: info.ID, Owner: b.uploads.account(info.ID), Size: info.Size, Since: info.ModTime})
	}
	now := b.opts.Clock()
	for _, r := range room.Order(list, nil, account, now) {
		if now.Sub(r.Since) < room.Rest {
			continue
		}
		up, err := b.store.Resume(ctx, r.ID)
		if errors.Is(err, storage.ErrUploadBusy) || errors.Is(err, storage.ErrUploadUnknown) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("resume an upload at rest: %w", err)
		}
		if up.Size() != r.Size { // a request came between
			if err := up.Close(); err != nil {
				return 0, fmt.Errorf("close an upload: %w", err)
			}
			continue
		}
		if err := up.Cancel(ctx); err != nil {
			return 0, errors.Join(fmt.Errorf("cancel an upload at rest: %w", err), up.Close())
		}
		b.uploads.ended(r.ID)
		b.opts.Log.Warn("registry: the disk is nearly full: an upload at rest was dropped", "account", r.Owner, "bytes", r.Size)
		return r.Size, nil
	}
	return 0, nil
}

// wire is the function wire, and says of a full disk how full it is and who can help.
func (b *Backend) wire(err error) error {
	var full *room.FullError
	if err = wire(err); !errors.Is(err, registry.ErrNoSpace) {
		return err
	}
	if !errors.As(err, &full) && b.disk != nil {
		full = b.disk.Full()
	}
	if full == nil {
		return err
	}
	return registry.ErrNoSpace.With("the registry's disk is full: %s; who runs the registry can help", full).Wrap(err)
}
