package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/repo"
)

// Claims are what a set says of the hold that it would make, for a person to judge by. Its texts hold no control characters.
type Claims struct {
	Manifest *Manifest
	Age      time.Duration // since the set was made, by its own word
	// Unproven is why nothing vouches for the set, [ErrUntrusted] or [ErrUnsigned] with the details; nil: it is the hold's own.
	Unproven error

	Captain string // DID, of the record that a hold reads: its key is self; empty without it
	// OtherCaptains is how many records of captains have another key: a hold does not read them.
	OtherCaptains int64
	// Crew are the members, those with the most rights first, at most [MaxClaimedCrew].
	Crew    []Member
	Members int64 // how many there are in all
}

// Member is one of the crew.
type Member struct {
	DID         string
	Permissions []string
}

// MaxClaimedCrew is how many of the crew [Claims] name.
const MaxClaimedCrew = 200

// maxRights bounds what is shown of one member.
const maxRights = 8

// readClaims reads captain and crew out of a set's repository.
func readClaims(ctx context.Context, car *repo.CAR, m *Manifest, tr *Trust, unproven error) (*Claims, error) {
	c := &Claims{Manifest: m, Age: tr.Clock().Sub(m.Created), Unproven: unproven}
	for rec, err := range car.Records(ctx) {
		if err != nil {
			return nil, err
		}
		if rec.Collection != atcr.NSIDCaptain && rec.Collection != atcr.NSIDCrew {
			continue
		}
		if js, err := rec.JSON(); err == nil { // a hold passes over what breaks its lexicon, too
			c.add(rec, js)
		}
	}
	c.sort()
	return c, nil
}

func (c *Claims) add(rec repo.Record, js []byte) {
	if rec.Collection == atcr.NSIDCaptain {
		if rec.RKey != atcr.RKeySelf {
			c.OtherCaptains++
			return
		}
		var captain atcr.Captain
		if json.Unmarshal(js, &captain) == nil {
			c.Captain = shownDID(captain.Owner)
		}
		return
	}
	var member atcr.Crew
	if json.Unmarshal(js, &member) != nil {
		return
	}
	c.Members++
	c.Crew = append(c.Crew, Member{shownDID(member.Member), shownRights(member.Permissions)})
	if len(c.Crew) >= 2*MaxClaimedCrew {
		c.sort()
	}
}

// sort puts those with the most rights first, and forgets the last.
func (c *Claims) sort() {
	slices.SortStableFunc(c.Crew, func(a, b Member) int { return cmp.Compare(b.weight(), a.weight()) })
	c.Crew = c.Crew[:min(len(c.Crew), MaxClaimedCrew)]
}

// weight orders members by what they could do: the highest of their rights.
func (m *Member) weight() int {
	n := 0
	for _, p := range m.Permissions {
		n = max(n, weight(p))
	}
	return n
}

func weight(right string) int {
	switch right {
	case atcr.PermissionCrewAdmin:
		return 4
	case atcr.PermissionBlobWrite:
		return 2
	case atcr.PermissionBlobRead:
		return 1
	}
	return 3 // may be a right of a newer program
}

// shownDID is a DID as it can be printed: texts of a set that nothing vouches for may speak to a terminal.
func shownDID(s string) string {
	if did, err := syntax.ParseDID(s); err == nil {
		return did.String()
	}
	return "not a DID"
}

func shownRights(all []string) []string {
	out := []string{}
	for _, p := range all {
		plain := len(p) > 0 && len(p) <= 40
		for _, r := range p {
			plain = plain && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == ':' || r == '-' || r == '.')
		}
		if !plain {
			p = "an unknown right"
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b string) int {
		return cmp.Or(cmp.Compare(weight(b), weight(a)), cmp.Compare(a, b))
	})
	return out[:min(len(out), maxRights)]
}
