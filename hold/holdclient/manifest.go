package holdclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"
)

const (
	methodNotify = "io.atcr.hold.notifyManifest"
	methodCrew   = "io.atcr.hold.requestCrew"
	methodQuota  = "io.atcr.hold.getQuota"
)

// Operation is what happened to a manifest.
type Operation string

// Operations of NotifyManifest.
const (
	Push   Operation = "push"
	Pull   Operation = "pull"
	Delete Operation = "delete"
)

// Notice tells a hold what happened to a manifest whose layers it keeps.
type Notice struct {
	Operation  Operation
	Repository string
	UserDID    string // the repository's owner; for a push or delete also the caller
	Digest     digest.Digest
	Tag        string // may be empty
	Manifest   []byte // the manifest's bytes; holds that read the record themselves need none
}

// NoticeResult is the hold's answer.
type NoticeResult struct {
	Success       bool   `json:"success"`
	Operation     string `json:"operation"`
	StatsUpdated  bool   `json:"statsUpdated"`
	LayersCreated int    `json:"layersCreated"`
	LayersDeleted int    `json:"layersDeleted"`
	PostCreated   bool   `json:"postCreated"`
	PostURI       string `json:"postUri"`
	// Ignored: the hold doesn't know the operation; its garbage collection finds out by itself.
	Ignored bool `json:"-"`
}

// NotifyManifest tells the hold of a push, pull or delete, after the record is in (or gone from) the owner's
// repository. It may be repeated: holds count and record each manifest once. A delete that the hold doesn't know is no
// error (Ignored). Errors: ErrQuotaExceeded, ErrForbidden, ErrInvalid (the record is missing, names another hold, or a layer is
// missing at the hold), ErrUnavailable, ….
func (c *Client) NotifyManifest(ctx context.Context, n Notice) (NoticeResult, error) {
	index, err := indexManifest(n.Manifest)
	var manifest json.RawMessage
	if err == nil {
		manifest, err = encode(index)
	}
	if err != nil {
		return NoticeResult{}, fmt.Errorf("hold %s: notify %s: %w", c.h.url, n.Digest, err)
	}
	if len(manifest) > maxJSON { // characters that JSON escapes; a hold that reads the record needs none of it
		manifest = json.RawMessage(`{}`)
	}
	in := struct {
		Repository string          `json:"repository"`
		UserDID    string          `json:"userDid"`
		Digest     digest.Digest   `json:"manifestDigest"`
		Manifest   json.RawMessage `json:"manifest"`
		Tag        string          `json:"tag,omitempty"`
		Operation  Operation       `json:"operation"`
	}{n.Repository, n.UserDID, n.Digest, manifest, n.Tag, n.Operation}
	var out NoticeResult
	err = c.callSlow(ctx, http.MethodPost, methodNotify, in, &out)
	if n.Operation == Delete && errors.Is(err, ErrNotSupported) {
		return NoticeResult{Operation: string(Delete), Ignored: true}, nil
	}
	return out, err
}

// manifestIndex is the manifest as notifyManifest wants it: what upstream's holds make their layer records from.
type manifestIndex struct {
	MediaType string            `json:"mediaType,omitempty"`
	Config    *layerRef         `json:"config,omitempty"`
	Layers    []layerRef        `json:"layers,omitempty"`
	Manifests []json.RawMessage `json:"manifests,omitempty"`
}

type layerRef struct {
	MediaType string `json:"mediaType,omitempty"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

type childRef struct {
	layerRef
	Platform *struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
	} `json:"platform,omitempty"`
}

// indexManifest reads the few fields of a manifest that notifyManifest carries; none from no bytes.
func indexManifest(b []byte) (*manifestIndex, error) {
	m := &manifestIndex{}
	if len(b) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	for i, raw := range m.Manifests {
		var child childRef
		if err := json.Unmarshal(raw, &child); err != nil {
			return nil, fmt.Errorf("manifest: manifests[%d]: %w", i, err)
		}
		short, err := encode(child)
		if err != nil {
			return nil, fmt.Errorf("manifest: manifests[%d]: %w", i, err)
		}
		m.Manifests[i] = short
	}
	return m, nil
}

// CrewResult is the answer to RequestCrew.
type CrewResult struct {
	Status  string `json:"status"` // created or already_member
	URI     string `json:"uri"`
	CID     string `json:"cid"`
	Message string `json:"message"`
}

// RequestCrew asks for membership with the given permissions, of "blob:read" and "blob:write"; none asks for both.
// Errors: ErrForbidden (the hold takes no members by itself), ErrUnauthorized, ErrUnavailable, ….
func (c *Client) RequestCrew(ctx context.Context, permissions ...string) (CrewResult, error) {
	in := struct {
		Role        string   `json:"role"`
		Permissions []string `json:"permissions,omitempty"`
	}{"member", permissions}
	var out CrewResult
	err := c.call(ctx, http.MethodPost, methodCrew, nil, in, &out)
	return out, err
}

// Quota is what a user takes up at a hold.
type Quota struct {
	UserDID     string `json:"userDid"`
	UniqueBlobs int64  `json:"uniqueBlobs"`
	TotalSize   int64  `json:"totalSize"`       // bytes
	Limit       *int64 `json:"limit,omitempty"` // bytes; nil is unlimited
	Tier        string `json:"tier,omitempty"`
}

// GetQuota returns a user's usage; others than oneself only for the captain and crew:admin. Errors: ErrForbidden, ….
func (c *Client) GetQuota(ctx context.Context, userDID string) (Quota, error) {
	var out Quota
	err := c.call(ctx, http.MethodGet, methodQuota, url.Values{"userDid": {userDID}}, nil, &out)
	return out, err
}
