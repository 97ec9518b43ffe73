package atcr

import "errors"

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
