package pds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/holds"
)

// Hold returns an anonymous client of the hold that has the DID; see holdclient.Client.As for one that signs. Errors:
// registry.ErrUnavailable; registry.ErrDenied for a DID that no hold has.
func (b *Backend) Hold(ctx context.Context, did string) (*holdclient.Client, error) {
	return b.holds.Client(ctx, did)
}

// presentHold is where an owner's pushes go: the profile's defaultHold, else ours. An owner without a profile gets
// one when session may write.
func (b *Backend) presentHold(ctx context.Context, o owner, session string) (string, error) {
	now := b.clock()
	if h, ok := b.present.Get(o.DID, now); ok {
		return h, nil
	}
	rec, err := b.servers.of(o).getRecord(ctx, o.DID, atcr.NSIDProfile, "self")
	missing := errors.Is(err, errNoRecord)
	if err != nil && !missing {
		return "", err
	}
	var profile atcr.SailorProfile
	if !missing {
		if err := json.Unmarshal(rec.Value, &profile); err != nil {
			b.lister.skip(o.DID, atcr.NSIDProfile, "self", err)
		}
	}
	hold := b.defaultHold
	if profile.DefaultHold != "" {
		if hold, err = atcr.HoldDID(profile.DefaultHold); err != nil {
			return "", registry.ErrDenied.With("defaultHold in your profile is no DID: %q", clip(profile.DefaultHold)).Wrap(err)
		}
	}
	if hold == "" {
		return "", registry.ErrDenied.With("there is no hold to push to: set defaultHold in your profile (%s)", atcr.NSIDProfile)
	}
	c, err := b.holds.Client(ctx, hold)
	if err != nil {
		return "", err
	}
	hold = c.DID()
	if missing && session != "" {
		if err := b.writeProfile(ctx, o, session, hold); err != nil {
			return "", fmt.Errorf("write the profile: %w", err)
		}
	}
	b.present.Put(o.DID, hold, now.Add(holds.RightsFor))
	return hold, nil
}

// writeProfile makes the first profile of an owner. One that somebody else has made meanwhile stands.
func (b *Backend) writeProfile(ctx context.Context, o owner, session, hold string) error {
	release, err := b.locks.Lock(ctx, o.DID)
	if err != nil {
		return err
	}
	defer release()
	_, err = b.change(ctx, o, session, func(ctx context.Context, retry bool) ([]planned, error) {
		if _, err := b.servers.of(o).getRecord(ctx, o.DID, atcr.NSIDProfile, "self"); err == nil || !errors.Is(err, errNoRecord) {
			return nil, err
		}
		now := atcr.NewDatetime(b.clock())
		profile := &atcr.SailorProfile{DefaultHold: hold, CreatedAt: now, UpdatedAt: now}
		return []planned{{write: write{Type: opCreate, Collection: profile.NSID(), RKey: atcr.RKeySelf, Value: profile}}}, nil
	})
	return err
}
