package atcr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/oci"
)

// Reference names an image: HOST/IDENTITY/REPOSITORY[:TAG][@DIGEST]. [ParseReference] makes it; the zero value is none.
type Reference struct {
	Host       string // host[:port] in lower case; empty when the reference has none
	Identity   Identity
	Repository string // may have slashes
	Tag        string
	Digest     digest.Digest // sha256 or sha512
}

// ParseReference reads a reference in any spelling. HOST may be left out. It is there when the part after it is an identity
// that is followed by a repository, and when it looks like a host to docker: it has a dot or a port, or is localhost.
// Neither tag nor digest is made up. Errors: [ErrReference], [ErrIdentity].
func ParseReference(s string) (Reference, error) {
	var r Reference
	rest := s
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		d, err := oci.ParseDigest(rest[i+1:])
		if err != nil {
			return Reference{}, fmt.Errorf("%w %q: %w", ErrReference, clip(s), err)
		}
		r.Digest, rest = d, rest[:i]
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') && strings.Contains(rest, "/") {
		if err := oci.CheckTag(rest[i+1:]); err != nil {
			return Reference{}, fmt.Errorf("%w %q: %w", ErrReference, clip(s), err)
		}
		r.Tag, rest = rest[i+1:], rest[:i]
	}
	if host, name, ok := cutHost(rest); ok {
		r.Host, rest = host, name
	}
	var err error
	if r.Identity, r.Repository, err = ParseName(rest); err != nil {
		return Reference{}, fmt.Errorf("reference %q: %w", clip(s), err)
	}
	return r, nil
}

// cutHost splits HOST off HOST/IDENTITY/REPOSITORY.
func cutHost(s string) (host, name string, ok bool) {
	host, name, ok = strings.Cut(s, "/")
	if !ok || strings.HasPrefix(host, "did:") {
		return "", "", false
	}
	host = strings.ToLower(host)
	second, _, ok := strings.Cut(name, "/")
	if !ok || !validHostPort(host) {
		return "", "", false
	}
	_, err := ParseIdentity(second)
	return host, name, err == nil
}

// validHostPort checks host, host:port, [IPv6] and [IPv6]:port, by docker's rule for what a host is.
func validHostPort(s string) bool {
	if !strings.ContainsAny(s, ".:") && s != "localhost" {
		return false
	}
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		if strings.Contains(h, ":") && s[0] != '[' {
			return false
		}
		host = h
		if s[0] == '[' {
			host = "[" + h + "]"
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		return ok && err == nil && addr.Is6() && addr.Zone() == ""
	}
	return validHost(host)
}

// Name is IDENTITY/REPOSITORY as clients of a registry write it.
func (r Reference) Name() string { return r.Identity.Path() + "/" + r.Repository }

// String is the reference in normal form, which [ParseReference] reads back and docker takes.
func (r Reference) String() string {
	s := r.Name()
	if r.Host != "" {
		s = r.Host + "/" + s
	}
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + string(r.Digest)
	}
	return s
}

// Collections in a user's repository.
const (
	NSIDManifest = "io.atcr.manifest"
	NSIDTag      = "io.atcr.tag"
	NSIDRepoPage = "io.atcr.repo.page"
	NSIDProfile  = "io.atcr.sailor.profile"
	NSIDStar     = "io.atcr.sailor.star"
)

// Collections in a hold's repository.
const (
	NSIDCaptain = "io.atcr.hold.captain"
	NSIDCrew    = "io.atcr.hold.crew"
	NSIDLayer   = "io.atcr.hold.layer"
	NSIDStats   = "io.atcr.hold.stats"
	NSIDScan    = "io.atcr.hold.scan"
	// The two of Bluesky's that a hold also writes.
	NSIDBskyProfile = "app.bsky.actor.profile"
	NSIDBskyPost    = "app.bsky.feed.post"
)

// Methods of a hold.
const (
	NSIDInitiateUpload       = "io.atcr.hold.initiateUpload"
	NSIDGetPartUploadURL     = "io.atcr.hold.getPartUploadUrl"
	NSIDUploadPart           = "io.atcr.hold.uploadPart"
	NSIDCompleteUpload       = "io.atcr.hold.completeUpload"
	NSIDAbortUpload          = "io.atcr.hold.abortUpload"
	NSIDNotifyManifest       = "io.atcr.hold.notifyManifest"
	NSIDRequestCrew          = "io.atcr.hold.requestCrew"
	NSIDGetQuota             = "io.atcr.hold.getQuota"
	NSIDSetStats             = "io.atcr.hold.setStats"
	NSIDUpdateCrewTier       = "io.atcr.hold.updateCrewTier"
	NSIDListTiers            = "io.atcr.hold.listTiers"
	NSIDGetLayersForManifest = "io.atcr.hold.getLayersForManifest"
	NSIDDeleteUserData       = "io.atcr.hold.deleteUserData"
	NSIDExportUserData       = "io.atcr.hold.exportUserData"
	NSIDSubscribeScanJobs    = "io.atcr.hold.subscribeScanJobs"
	// Ours, beyond what other holds have.
	NSIDCheckBlobs = "io.atcr.hold.checkBlobs"
	NSIDGetUpload  = "io.atcr.hold.getUpload"
)

// Services in the DID document of a hold. Readers look for the first and fall back to the second.
const (
	ServiceHold     = "#atcr_hold"
	ServiceHoldType = "AtcrHoldService"
	ServicePDS      = "#atproto_pds"
	ServicePDSType  = "AtprotoPersonalDataServer"
)

// Rights that a crew record can give.
const (
	PermissionBlobRead  = "blob:read"
	PermissionBlobWrite = "blob:write" // implies blob:read
	PermissionCrewAdmin = "crew:admin" // implies both
)

// RKeySelf is the record key of records that a repository has one of: the sailor profile and the captain.
const RKeySelf = "self"

// Kinds of errors. What a function returns wraps one of them and names the part that is wrong.
var (
	// ErrReference is for text that is no reference.
	ErrReference = errors.New("invalid reference")
	// ErrIdentity is for text that is neither a handle nor a DID.
	ErrIdentity = errors.New("invalid identity")
	// ErrDID is for text that is no DID, or no hold's DID or URL.
	ErrDID = errors.New("invalid DID")
	// ErrURI is for text that is no at:// URI of a record.
	ErrURI = errors.New("invalid AT-URI")
	// ErrRecord is for a record that breaks its lexicon.
	ErrRecord = errors.New("invalid record")
)
