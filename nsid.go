package atcr

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
