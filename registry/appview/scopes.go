package appview

import "github.com/atcr-dev/atcr"

// collections are what a registry writes in its users' repositories: manifests and tags by docker, the others by the pages. All are
// there before the pages that write them, since who signed in before would have to sign in again.
var collections = []string{atcr.NSIDManifest, atcr.NSIDTag, atcr.NSIDProfile, atcr.NSIDRepoPage, atcr.NSIDStar}

// methods are those of holds that are called with a token of a user's.
var methods = []string{
	atcr.NSIDInitiateUpload, atcr.NSIDGetPartUploadURL, atcr.NSIDUploadPart, atcr.NSIDCompleteUpload, atcr.NSIDAbortUpload,
	atcr.NSIDGetUpload, atcr.NSIDCheckBlobs, atcr.NSIDNotifyManifest, atcr.NSIDRequestCrew, atcr.NSIDGetQuota,
	"com.atproto.sync.getBlob",
}

// Scopes returns what a registry asks of whoever signs in with OAuth, and no more: to write its own collections, to upload blobs, and
// tokens for the methods of holds. They are asked of any hold, since the owner of an image chooses it.
//
// A scope that is added later is missing in the grants of before, which go on with what they have.
func Scopes() []string {
	scopes := []string{"atproto"}
	for _, c := range collections {
		scopes = append(scopes, "repo:"+c)
	}
	scopes = append(scopes, "blob:*/*") // manifests have types of their own, and pages have pictures
	for _, m := range methods {
		scopes = append(scopes, "rpc:"+m+"?aud=*")
	}
	return scopes
}
