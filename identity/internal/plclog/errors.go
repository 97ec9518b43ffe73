package plclog

import (
	"errors"

	"github.com/atcr-dev/atcr/internal/durable"
)

// Errors of package identity, which documents them.
var (
	ErrUnavailable    = errors.New("PLC directory unavailable")
	ErrForbidden      = errors.New("PLC directory address not allowed")
	ErrNotFound       = errors.New("DID is not in the PLC directory")
	ErrLog            = errors.New("PLC log refused")
	ErrTombstone      = errors.New("DID is a tombstone")
	ErrRefused        = errors.New("PLC operation refused")
	ErrRace           = errors.New("PLC log keeps changing")
	ErrNoRotationKey  = errors.New("no rotation key that may change this DID")
	ErrNotPLC         = errors.New("no did:plc")
	ErrContradiction  = errors.New("configured DID differs from the stored one")
	ErrKeyMissing     = errors.New("signing key missing")
	ErrKeyPermissions = durable.ErrPermissions
	ErrKeyFile        = errors.New("key file unreadable")
	ErrKeyReplaced    = errors.New("an older signing key was put back")
)

// ConfigError says which field of identity.Config is wrong.
type ConfigError struct {
	Field string
	Err   error
}

func (e *ConfigError) Error() string { return "identity.Config." + e.Field + ": " + e.Err.Error() }

func (e *ConfigError) Unwrap() error { return e.Err }

// Clip bounds untrusted text in an error.
func Clip(s string) string {
	if len(s) > 128 {
		return s[:128] + "…"
	}
	return s
}
