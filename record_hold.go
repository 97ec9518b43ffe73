package atcr

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/atcr-dev/atcr/internal/oci"
)

// Captain says whose a hold is and who may use it, io.atcr.hold.captain/self.
type Captain struct {
	Owner               string   `json:"owner"`        // DID
	Public              bool     `json:"public"`       // anyone may read layers
	AllowAllCrew        bool     `json:"allowAllCrew"` // anyone signed in may join
	EnableBlueskyPosts  bool     `json:"enableBlueskyPosts"`
	DeployedAt          Datetime `json:"deployedAt"`
	Region              string   `json:"region,omitempty" max:"64"`
	Provider            string   `json:"provider,omitempty" max:"64"` // older records
	Successor           string   `json:"successor,omitempty"`         // DID of the hold that replaces this one
	SupporterBadgeTiers []string `json:"supporterBadgeTiers,omitempty"`
	Extra               Extra    `json:"-"`
}

// NSID is [NSIDCaptain].
func (*Captain) NSID() string { return NSIDCaptain }

// MarshalJSON writes the record with its $type and its unknown fields.
func (c Captain) MarshalJSON() ([]byte, error) { return encode(NSIDCaptain, &c, c.Extra) }

// UnmarshalJSON reads any form of it. Errors: [ErrRecord].
func (c *Captain) UnmarshalJSON(data []byte) (err error) {
	*c = Captain{}
	c.Extra, err = decode(data, NSIDCaptain, c)
	return err
}

// Check implements [Record].
func (c *Captain) Check() error {
	if err := check(NSIDCaptain, c); err != nil {
		return err
	}
	return checkDIDs(NSIDCaptain, "owner", c.Owner)
}

// Crew is one member of a hold, io.atcr.hold.crew. We write it under [CrewRKey]; readers match on Member.
type Crew struct {
	Member      string   `json:"member"` // DID; the oldest records call it did
	Role        string   `json:"role" max:"32"`
	Permissions []string `json:"permissions"`
	Tier        string   `json:"tier,omitempty" max:"32"`
	AddedAt     Datetime `json:"addedAt"`
	Joined      bool     `json:"joined,omitempty"` // the member asked for it, and the captain has not said since what the member may
	Extra       Extra    `json:"-"`
}

// NSID is [NSIDCrew].
func (*Crew) NSID() string { return NSIDCrew }

// MarshalJSON writes the record with its $type and its unknown fields.
func (c Crew) MarshalJSON() ([]byte, error) {
	out := c
	if out.Permissions == nil {
		out.Permissions = []string{}
	}
	return encode(NSIDCrew, &out, c.Extra)
}

// UnmarshalJSON reads any form of it. Errors: [ErrRecord].
func (c *Crew) UnmarshalJSON(data []byte) (err error) {
	*c = Crew{}
	if c.Extra, err = decode(data, NSIDCrew, c); err != nil {
		return err
	}
	if raw, ok := c.Extra["did"]; ok && c.Member == "" {
		if err := json.Unmarshal(raw, &c.Member); err != nil {
			return fmt.Errorf("%w: did: %w", ErrRecord, err)
		}
	}
	return nil
}

// Check implements [Record].
func (c *Crew) Check() error {
	if err := check(NSIDCrew, c); err != nil {
		return err
	}
	return checkDIDs(NSIDCrew, "member", c.Member)
}

// Can says whether the member has a right, given or implied: crew:admin implies the two others, blob:write blob:read.
func (c *Crew) Can(permission string) bool {
	has := func(p string) bool { return slices.Contains(c.Permissions, p) }
	switch permission {
	case PermissionBlobRead:
		return has(PermissionBlobRead) || has(PermissionBlobWrite) || has(PermissionCrewAdmin)
	case PermissionBlobWrite:
		return has(PermissionBlobWrite) || has(PermissionCrewAdmin)
	default:
		return has(permission)
	}
}

// Layer says that a user's manifest uses a blob at a hold, io.atcr.hold.layer: one for each user, repository, manifest
// and digest.
type Layer struct {
	Digest    string   `json:"digest" max:"135"`
	Size      int64    `json:"size"` // bytes
	MediaType string   `json:"mediaType" max:"128"`
	Manifest  string   `json:"manifest"` // at-uri of the manifest's record
	UserDID   string   `json:"userDid"`
	CreatedAt Datetime `json:"createdAt"`
	Extra     Extra    `json:"-"`
}

// NSID is [NSIDLayer].
func (*Layer) NSID() string { return NSIDLayer }

// MarshalJSON writes the record with its $type and its unknown fields.
func (l Layer) MarshalJSON() ([]byte, error) { return encode(NSIDLayer, &l, l.Extra) }

// UnmarshalJSON reads any form of it. Errors: [ErrRecord].
func (l *Layer) UnmarshalJSON(data []byte) (err error) {
	*l = Layer{}
	l.Extra, err = decode(data, NSIDLayer, l)
	return err
}

// Check implements [Record].
func (l *Layer) Check() error {
	if err := check(NSIDLayer, l); err != nil {
		return err
	}
	if _, err := oci.ParseDigest(l.Digest); err != nil {
		return fmt.Errorf("%w %s: %w", ErrRecord, NSIDLayer, err)
	}
	if _, err := ParseURI(l.Manifest); err != nil {
		return fmt.Errorf("%w %s: manifest: %w", ErrRecord, NSIDLayer, err)
	}
	if l.Size < 0 {
		return fmt.Errorf("%w %s: size is negative", ErrRecord, NSIDLayer)
	}
	return checkDIDs(NSIDLayer, "userDid", l.UserDID)
}

// Stats counts the pulls and pushes of a repository at a hold, io.atcr.hold.stats. Its key is [StatsRKey].
type Stats struct {
	OwnerDID   string   `json:"ownerDid"`
	Repository string   `json:"repository" max:"256"`
	PullCount  int64    `json:"pullCount"`
	PushCount  int64    `json:"pushCount"`
	LastPull   Datetime `json:"lastPull,omitempty"`
	LastPush   Datetime `json:"lastPush,omitempty"`
	UpdatedAt  Datetime `json:"updatedAt"`
	Extra      Extra    `json:"-"`
}

// NSID is [NSIDStats].
func (*Stats) NSID() string { return NSIDStats }

// MarshalJSON writes the record with its $type and its unknown fields.
func (s Stats) MarshalJSON() ([]byte, error) { return encode(NSIDStats, &s, s.Extra) }

// UnmarshalJSON reads any form of it. Errors: [ErrRecord].
func (s *Stats) UnmarshalJSON(data []byte) (err error) {
	*s = Stats{}
	s.Extra, err = decode(data, NSIDStats, s)
	return err
}

// Check implements [Record].
func (s *Stats) Check() error {
	if err := check(NSIDStats, s); err != nil {
		return err
	}
	if s.PullCount < 0 || s.PushCount < 0 {
		return fmt.Errorf("%w %s: a count is negative", ErrRecord, NSIDStats)
	}
	return checkDIDs(NSIDStats, "ownerDid", s.OwnerDID)
}

// Scan is the result of looking for known vulnerabilities in a manifest, io.atcr.hold.scan. Its key is [ScanRKey].
type Scan struct {
	Manifest       string   `json:"manifest"` // at-uri of the manifest's record
	Repository     string   `json:"repository" max:"256"`
	UserDID        string   `json:"userDid"`
	Critical       int      `json:"critical"`
	High           int      `json:"high"`
	Medium         int      `json:"medium"`
	Low            int      `json:"low"`
	Total          int      `json:"total"`
	ScannerVersion string   `json:"scannerVersion" max:"64"`
	ScannedAt      Datetime `json:"scannedAt"`
	SBOMBlob       *Blob    `json:"sbomBlob,omitempty"`        // application/spdx+json
	VulnReportBlob *Blob    `json:"vulnReportBlob,omitempty"`  // application/vnd.atcr.vulnerabilities+json
	Status         string   `json:"status,omitempty" max:"16"` // ok, failed or skipped; empty means ok
	Reason         string   `json:"reason,omitempty" max:"256"`
	Extra          Extra    `json:"-"`
}

// NSID is [NSIDScan].
func (*Scan) NSID() string { return NSIDScan }

// MarshalJSON writes the record with its $type and its unknown fields.
func (s Scan) MarshalJSON() ([]byte, error) { return encode(NSIDScan, &s, s.Extra) }

// UnmarshalJSON reads any form of it. Errors: [ErrRecord].
func (s *Scan) UnmarshalJSON(data []byte) (err error) {
	*s = Scan{}
	s.Extra, err = decode(data, NSIDScan, s)
	return err
}

// Check implements [Record].
func (s *Scan) Check() error {
	if err := check(NSIDScan, s); err != nil {
		return err
	}
	if min(s.Critical, s.High, s.Medium, s.Low, s.Total) < 0 {
		return fmt.Errorf("%w %s: a count is negative", ErrRecord, NSIDScan)
	}
	if _, err := ParseURI(s.Manifest); err != nil {
		return fmt.Errorf("%w %s: manifest: %w", ErrRecord, NSIDScan, err)
	}
	return checkDIDs(NSIDScan, "userDid", s.UserDID)
}

func checkDIDs(nsid, field, did string) error {
	if err := CheckDID(did); err != nil {
		return fmt.Errorf("%w %s: %s: %w", ErrRecord, nsid, field, err)
	}
	return nil
}
