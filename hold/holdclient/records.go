package holdclient

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/atcr-dev/atcr"
)

const (
	methodGetRecord   = "com.atproto.repo.getRecord"
	methodListRecords = "com.atproto.repo.listRecords"
	methodDescribe    = "com.atproto.server.describeServer"

	pageSize = 100
	maxPages = 100
)

// Captain is a hold's captain record, as far as clients need it.
type Captain struct {
	Owner        string `json:"owner"`        // DID
	Public       bool   `json:"public"`       // blobs are readable without a token
	AllowAllCrew bool   `json:"allowAllCrew"` // anyone signed in may become crew
	Successor    string `json:"successor"`    // DID of the hold that replaces this one, may be empty
}

// Member is a crew record.
type Member struct {
	Member      string   `json:"member"` // DID
	Role        string   `json:"role"`
	Permissions []string `json:"permissions"` // blob:read, blob:write, crew:admin
	Tier        string   `json:"tier"`
}

// Rights of one user at a hold.
type Rights struct {
	Captain string // DID of the captain
	Public  bool   // the hold is public: everyone reads
	Crew    bool   // the user is captain or has a crew record
	Read    bool
	Write   bool
	Admin   bool
}

type recordAnswer struct {
	URI   string          `json:"uri"`
	Value json.RawMessage `json:"value"`
}

// Captain reads the hold's captain record. Errors: ErrNotFound, ErrUnavailable, ErrBadAnswer, ….
func (c *Client) Captain(ctx context.Context) (Captain, error) {
	var out Captain
	value, err := c.record(ctx, atcr.NSIDCaptain, "self")
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(value, &out); err != nil || !strings.HasPrefix(out.Owner, "did:") {
		return Captain{}, c.bad(methodGetRecord, "captain record names no owner")
	}
	return out, nil
}

// Member reads the crew record of a DID: at the key that is made from the DID, else, since older holds chose other
// keys, by going through all pages (to 10 000 records). Errors: ErrNotFound (no member), ErrUnavailable, ….
func (c *Client) Member(ctx context.Context, did string) (Member, error) {
	value, err := c.record(ctx, atcr.NSIDCrew, atcr.CrewRKey(did))
	if err == nil {
		var m Member
		if json.Unmarshal(value, &m) == nil && m.Member == did {
			return m, nil
		}
	} else if !errors.Is(err, ErrNotFound) {
		return Member{}, err
	}
	return c.findMember(ctx, did)
}

func (c *Client) findMember(ctx context.Context, did string) (Member, error) {
	cursor := ""
	for range maxPages {
		q := url.Values{"repo": {c.h.did}, "collection": {atcr.NSIDCrew}, "limit": {strconv.Itoa(pageSize)}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		var page struct {
			Cursor  string         `json:"cursor"`
			Records []recordAnswer `json:"records"`
		}
		if err := c.call(ctx, http.MethodGet, methodListRecords, q, nil, &page); err != nil {
			return Member{}, err
		}
		for _, r := range page.Records {
			var m Member
			if json.Unmarshal(r.Value, &m) == nil && m.Member == did { // a broken record is skipped
				return m, nil
			}
		}
		if page.Cursor == "" || len(page.Records) == 0 || page.Cursor == cursor {
			break
		}
		cursor = page.Cursor
	}
	return Member{}, &Error{Kind: ErrNotFound, Method: methodListRecords, URL: c.h.url, Message: "no crew record of " + did}
}

// Rights works out what a user may do at the hold from its records: the captain everything, blob:write implies
// blob:read, crew:admin both, a public hold is read by everyone. did empty is anonymous. Two or three requests; keep the
// answer for a minute. Errors: ErrUnavailable, ErrNotFound (the hold has no captain), ….
func (c *Client) Rights(ctx context.Context, did string) (Rights, error) {
	captain, err := c.Captain(ctx)
	if err != nil {
		return Rights{}, err
	}
	r := Rights{Captain: captain.Owner, Public: captain.Public, Read: captain.Public}
	switch did {
	case "":
		return r, nil
	case captain.Owner:
		return Rights{Captain: captain.Owner, Public: captain.Public, Crew: true, Read: true, Write: true, Admin: true}, nil
	}
	m, err := c.Member(ctx, did)
	if errors.Is(err, ErrNotFound) {
		return r, nil
	}
	if err != nil {
		return Rights{}, err
	}
	r.Crew = true
	r.Admin = slices.Contains(m.Permissions, atcr.PermissionCrewAdmin)
	r.Write = r.Admin || slices.Contains(m.Permissions, atcr.PermissionBlobWrite)
	r.Read = r.Read || r.Write || slices.Contains(m.Permissions, atcr.PermissionBlobRead)
	return r, nil
}

// Description is a hold's answer to describeServer.
type Description struct {
	DID string `json:"did"`
}

// Describe asks the hold who it is. Errors: ErrUnavailable, ….
func (c *Client) Describe(ctx context.Context) (Description, error) {
	var out Description
	err := c.call(ctx, http.MethodGet, methodDescribe, nil, nil, &out)
	return out, err
}

func (c *Client) record(ctx context.Context, collection, rkey string) (json.RawMessage, error) {
	var out recordAnswer
	q := url.Values{"repo": {c.h.did}, "collection": {collection}, "rkey": {rkey}}
	err := c.call(ctx, http.MethodGet, methodGetRecord, q, nil, &out)
	if e, ok := err.(*Error); ok && e.Kind == ErrInvalid && strings.Contains(strings.ToLower(e.Message), "could not locate record") {
		e.Kind = ErrNotFound // as older servers say it: 400 InvalidRequest
	}
	if err == nil && len(out.Value) == 0 {
		err = c.bad(methodGetRecord, "no value")
	}
	return out.Value, err
}
