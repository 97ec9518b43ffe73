package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/rivo/uniseg"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/repo"
)

// maxProfiles bounds the actors of one getProfiles, as its lexicon does.
const maxProfiles = 25

// Profile is what people see of a hold in Bluesky's applications: its record app.bsky.actor.profile. Empty fields are left as the
// record has them.
type Profile struct {
	DisplayName string // at most 64 graphemes and 640 bytes
	Description string // at most 256 graphemes and 2560 bytes
}

func (p Profile) check() error {
	return errors.Join(tooLong("DisplayName", p.DisplayName, 64), tooLong("Description", p.Description, 256))
}

func tooLong(field, value string, graphemes int) error {
	if len(value) > 10*graphemes || uniseg.GraphemeClusterCount(value) > graphemes {
		return fmt.Errorf("hold: Profile.%s is too long: at most %d characters and %d bytes are allowed", field, graphemes, 10*graphemes)
	}
	return nil
}

// alignProfile brings the profile record in line with the configuration, and makes none when that says nothing.
func (p *people) alignProfile(ctx context.Context) error {
	want := object{}
	if p.cfg.Profile.DisplayName != "" {
		want["displayName"] = p.cfg.Profile.DisplayName
	}
	if p.cfg.Profile.Description != "" {
		want["description"] = p.cfg.Profile.Description
	}
	if len(want) == 0 {
		return nil
	}
	_, _, err := p.records.update(ctx, atcr.NSIDBskyProfile, "self", func(o object, exists bool) bool {
		if !exists {
			o["createdAt"] = timestamp(p.clock())
		}
		return len(o.set(want)) > 0
	})
	return err
}

// profileView is app.bsky.actor.defs#profileViewDetailed, as far as a hold has something to say.
type profileView struct {
	DID         string `json:"did"`
	Handle      string `json:"handle"`
	DisplayName string `json:"displayName,omitempty"`
	Description string `json:"description,omitempty"`
	Avatar      string `json:"avatar,omitempty"`
	CreatedAt   string `json:"createdAt,omitempty"`
}

// getProfile is app.bsky.actor.getProfile, so that the applications of Bluesky can show the hold.
func (s *Server) getProfile(ctx context.Context, c *call) (any, error) {
	actor, err := queryOne(c.r, "actor")
	if err != nil {
		return nil, err
	}
	if !s.keeper.named(actor) {
		return nil, invalid("actor: profile not found: this hold has its own only, %s", s.DID())
	}
	return s.profile(ctx)
}

// getProfiles is app.bsky.actor.getProfiles: the hold's own when it is among the actors, as those that aren't known are left out.
func (s *Server) getProfiles(ctx context.Context, c *call) (any, error) {
	actors := c.r.URL.Query()["actors"]
	if len(actors) == 0 || len(actors) > maxProfiles {
		return nil, invalid("actors: want 1 to %d of them, there are %d", maxProfiles, len(actors))
	}
	profiles := []profileView{}
	if slices.ContainsFunc(actors, s.keeper.named) {
		own, err := s.profile(ctx)
		if err != nil {
			return nil, err
		}
		profiles = append(profiles, own)
	}
	return map[string]any{"profiles": profiles}, nil
}

func (s *Server) profile(ctx context.Context) (profileView, error) {
	view := profileView{DID: s.DID(), Handle: s.keeper.self().Handle.String()}
	if view.Handle == "" {
		view.Handle = syntax.HandleInvalid.String()
	}
	rec, err := s.repo.Get(ctx, atcr.NSIDBskyProfile, "self")
	if errors.Is(err, repo.ErrNotFound) {
		return view, nil
	}
	if err != nil {
		return profileView{}, err
	}
	js, err := rec.JSON()
	if err != nil {
		return profileView{}, err
	}
	var r struct {
		DisplayName string `json:"displayName"`
		Description string `json:"description"`
		CreatedAt   string `json:"createdAt"`
		Avatar      struct {
			Ref struct {
				Link string `json:"$link"`
			} `json:"ref"`
		} `json:"avatar"`
	}
	// The record may have come with an import from elsewhere: what of it isn't as the lexicon wants it isn't shown.
	if json.Unmarshal(js, &r) != nil {
		return view, nil
	}
	if (Profile{DisplayName: r.DisplayName}).check() == nil {
		view.DisplayName = r.DisplayName
	}
	if (Profile{Description: r.Description}).check() == nil {
		view.Description = r.Description
	}
	if _, err := syntax.ParseDatetime(r.CreatedAt); err == nil {
		view.CreatedAt = r.CreatedAt
	}
	// A private hold shows its blobs to its crew alone.
	if cid := r.Avatar.Ref.Link; cid != "" && s.people.record().Public {
		view.Avatar = s.cfg.PublicURL + "/xrpc/" + methodGetBlob + "?" + url.Values{"did": {view.DID}, "cid": {cid}}.Encode()
	}
	return view, nil
}
