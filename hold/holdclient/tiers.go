package holdclient

import (
	"context"
	"net/http"
)

const (
	methodListTiers = "io.atcr.hold.listTiers"
	methodSetTier   = "io.atcr.hold.updateCrewTier"
)

// Tier is a rank of a hold's crew.
type Tier struct {
	Name        string `json:"name"`
	Quota       *int64 `json:"quota,omitempty"` // bytes; nil: unlimited, or not told
	Description string `json:"description,omitempty"`
}

// ListTiers returns the tiers of the hold, lowest first: the place in the list is a tier's rank. It needs no token. Errors:
// ErrNotSupported, ErrUnavailable, ….
func (c *Client) ListTiers(ctx context.Context) ([]Tier, error) {
	var out struct {
		Tiers []Tier `json:"tiers"`
	}
	err := c.call(ctx, http.MethodGet, methodListTiers, nil, nil, &out)
	return out.Tiers, err
}

// UpdateCrewTier gives a member the tier of a rank, counted from 0, and returns the tier's name. The client's tokens must be those of
// the AppView that the hold trusts, in the name of the member (serviceauth.MintOptions.Subject). Errors: ErrUnauthorized
// (not that AppView), ErrNotFound (userDID is not of the crew), ErrInvalid (no such rank), ErrNotSupported, ErrUnavailable, ….
func (c *Client) UpdateCrewTier(ctx context.Context, userDID string, rank int) (string, error) {
	in := struct {
		UserDID string `json:"userDid"`
		Rank    int    `json:"tierRank"`
	}{userDID, rank}
	var out struct {
		Name string `json:"tierName"`
	}
	err := c.call(ctx, http.MethodPost, methodSetTier, nil, in, &out)
	return out.Name, err
}
