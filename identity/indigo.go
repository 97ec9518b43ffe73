package identity

import indigo "github.com/bluesky-social/indigo/atproto/identity"

// The types of bluesky-social/indigo's atproto/identity that this package speaks, so that users need not import both.
type (
	// Directory looks up identities by handle and DID.
	Directory = indigo.Directory
	// Account is somebody else's identity as a [Directory] returns it; [Identity] is our own.
	Account = indigo.Identity
	// DIDDocument is a DID document as far as AT Protocol reads it.
	DIDDocument = indigo.DIDDocument
	// MockDirectory is a directory in memory, for tests.
	MockDirectory = indigo.MockDirectory
)

// NewMockDirectory returns an empty [MockDirectory].
func NewMockDirectory() *MockDirectory { return indigo.NewMockDirectory() }

// Errors of a [Directory], indigo's own; compare with errors.Is.
var (
	// ErrInvalidHandle: the text is no handle, or handle.invalid.
	ErrInvalidHandle = indigo.ErrInvalidHandle
	// ErrHandleNotFound: the handle's domain answered and names no DID.
	ErrHandleNotFound = indigo.ErrHandleNotFound
	// ErrHandleResolutionFailed: the handle could not be asked about; it may be well.
	ErrHandleResolutionFailed = indigo.ErrHandleResolutionFailed
	// ErrHandleMismatch: the handle names a DID whose document names another handle or none.
	ErrHandleMismatch = indigo.ErrHandleMismatch
	// ErrHandleNotDeclared: the document names no handle.
	ErrHandleNotDeclared = indigo.ErrHandleNotDeclared
	// ErrHandleReservedTLD: the handle's last part can't be on the network.
	ErrHandleReservedTLD = indigo.ErrHandleReservedTLD
	// ErrDIDNotFound: there is no such DID, or it is a tombstone.
	ErrDIDNotFound = indigo.ErrDIDNotFound
	// ErrDIDResolutionFailed: the DID could not be asked about, or its document is no good.
	ErrDIDResolutionFailed = indigo.ErrDIDResolutionFailed
	// ErrKeyNotDeclared: the document has no such key.
	ErrKeyNotDeclared = indigo.ErrKeyNotDeclared
)
