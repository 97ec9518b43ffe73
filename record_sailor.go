package atcr

import (
	"encoding/json"
	"fmt"
)

// RepoPage is the record of a repository's page, io.atcr.repo.page. Its key is [RepoPageRKey].
type RepoPage struct {
	Repository  string   `json:"repository" max:"256"`
	Description string   `json:"description,omitempty" max:"100000"` // markdown
	Avatar      *Blob    `json:"avatar,omitempty"`                   // png, jpeg or webp up to 3 000 000 bytes
	UserEdited  bool     `json:"userEdited,omitempty"`               // a push no longer changes the description
	CreatedAt   Datetime `json:"createdAt"`
	UpdatedAt   Datetime `json:"updatedAt"`
	Extra       Extra    `json:"-"`
}

// NSID is [NSIDRepoPage].
func (*RepoPage) NSID() string { return NSIDRepoPage }

// MarshalJSON writes the record with its $type and its unknown fields.
func (p RepoPage) MarshalJSON() ([]byte, error) { return encode(NSIDRepoPage, &p, p.Extra) }

// UnmarshalJSON reads any form of it. Errors: [ErrRecord].
func (p *RepoPage) UnmarshalJSON(data []byte) (err error) {
	*p = RepoPage{}
	p.Extra, err = decode(data, NSIDRepoPage, p)
	return err
}

// Check implements [Record].
func (p *RepoPage) Check() error { return check(NSIDRepoPage, p) }

// SailorProfile is a user's settings, io.atcr.sailor.profile/self.
type SailorProfile struct {
	// DefaultHold is the DID of the hold that pushes go to; empty means the user took none. An older profile's URL is read as
	// its did:web.
	DefaultHold        string   `json:"defaultHold,omitempty"`
	AutoRemoveUntagged bool     `json:"autoRemoveUntagged,omitempty"`
	OCIClient          string   `json:"ociClient,omitempty" max:"32"` // for the commands shown on pages
	RegistryDomain     string   `json:"registryDomain,omitempty" max:"255"`
	CreatedAt          Datetime `json:"createdAt"`
	UpdatedAt          Datetime `json:"updatedAt,omitempty"`
	Extra              Extra    `json:"-"`
}

// NSID is [NSIDProfile].
func (*SailorProfile) NSID() string { return NSIDProfile }

// MarshalJSON writes the record with its $type and its unknown fields.
func (p SailorProfile) MarshalJSON() ([]byte, error) { return encode(NSIDProfile, &p, p.Extra) }

// UnmarshalJSON reads any form of it. A default hold that is neither DID nor URL is kept as it is. Errors: [ErrRecord].
func (p *SailorProfile) UnmarshalJSON(data []byte) (err error) {
	*p = SailorProfile{}
	if p.Extra, err = decode(data, NSIDProfile, p); err != nil {
		return err
	}
	if did, err := HoldDID(p.DefaultHold); err == nil {
		p.DefaultHold = did
	}
	return nil
}

// Check implements [Record].
func (p *SailorProfile) Check() error { return check(NSIDProfile, p) }

// Star says that a user likes a repository, io.atcr.sailor.star.
type Star struct {
	Subject   StarSubject `json:"subject"`
	CreatedAt Datetime    `json:"createdAt"`
	Extra     Extra       `json:"-"`
}

// StarSubject is the at-uri of the starred repository's page. The older form, {did, repository}, is read as that.
type StarSubject string

// UnmarshalJSON reads both forms.
func (s *StarSubject) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, (*string)(s))
	}
	var old struct {
		DID        string `json:"did"`
		Repository string `json:"repository"`
	}
	if err := json.Unmarshal(data, &old); err != nil {
		return err
	}
	uri := URI{old.DID, NSIDRepoPage, RepoPageRKey(old.Repository)}
	if _, err := ParseURI(uri.String()); err != nil {
		return err
	}
	*s = StarSubject(uri.String())
	return nil
}

// NSID is [NSIDStar].
func (*Star) NSID() string { return NSIDStar }

// MarshalJSON writes the record with its $type and its unknown fields.
func (s Star) MarshalJSON() ([]byte, error) { return encode(NSIDStar, &s, s.Extra) }

// UnmarshalJSON reads any form of it. Errors: [ErrRecord].
func (s *Star) UnmarshalJSON(data []byte) (err error) {
	*s = Star{}
	s.Extra, err = decode(data, NSIDStar, s)
	return err
}

// Check implements [Record].
func (s *Star) Check() error {
	if err := check(NSIDStar, s); err != nil {
		return err
	}
	if _, err := ParseURI(string(s.Subject)); err != nil {
		return fmt.Errorf("%w %s: subject: %w", ErrRecord, NSIDStar, err)
	}
	return nil
}
