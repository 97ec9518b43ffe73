package identity

import (
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr/internal/httpx"
)

// unusable is the reason why a look-up fails however often it is made. Beside it the error is ErrDIDResolutionFailed.
type unusable struct {
	why string // names no address of this network
	err error
}

func (e *unusable) Error() string { return e.err.Error() }

func (e *unusable) Unwrap() error { return e.err }

// Unusable returns why. Packages that don't import this one find it by errors.As.
func (e *unusable) Unusable() string { return e.why }

// Unusable reports whether a look-up of a [Resolver] failed in a way that asking again does not help: the document is another DID's or
// can't be read, its address is one that may not be asked, or no service can have such a DID. why says so in words that name no address,
// so that it may be sent to anyone. For a DID or a handle that does not exist there are ErrDIDNotFound and ErrHandleNotFound.
func Unusable(err error) (why string, ok bool) {
	var e *unusable
	if errors.As(err, &e) {
		return e.why, true
	}
	return "", false
}

// unsupported is an error about a DID that this resolver will never ask about.
func unsupported(err error) error {
	return fmt.Errorf("%w: %w: %w", ErrDIDResolutionFailed, errUnsupported, &unusable{err.Error(), err})
}

// unasked is the error of a fetch that brought nothing.
func unasked(err error) error {
	if errors.Is(err, httpx.ErrForbiddenAddress) {
		return &unusable{"its address is not public, or not one that may be asked here", err}
	}
	if errors.Is(err, httpx.ErrTooLarge) {
		return &unusable{fmt.Sprintf("its document is longer than %d bytes", MaxDocument), err}
	}
	return err
}
