package serviceauth

import (
	"errors"
	"net/http"
)

// ErrNotServiceToken: what was sent, if anything, is no JWT issued by a DID. A server treats the caller as one who sent nothing.
var ErrNotServiceToken = errors.New("no service token")

// Kind says what is wrong with a service token.
type Kind string

// Kinds of errors.
const (
	BadToken      Kind = "bad_token"      // its form, its algorithm, a claim that is missing
	BadAudience   Kind = "bad_audience"   // for another service
	BadLxm        Kind = "bad_lxm"        // for another method, or for none
	Expired       Kind = "expired"        // or lives too long, or is from the future or from before NotBefore
	Replay        Kind = "replay"         // used before
	BadSignature  Kind = "bad_signature"  // not signed by the issuer's key
	UnknownIssuer Kind = "unknown_issuer" // no such DID, no such key, deactivated
	TooMany       Kind = "too_many"       // the issuer has too many live tokens
	Unavailable   Kind = "unavailable"    // the issuer's key could not be fetched
	WrongScheme   Kind = "wrong_scheme"   // Authorization: DPoP
)

// Error says why a service token was refused. Its message may be sent: it tells nothing but what the token said.
type Error struct {
	Kind    Kind
	Message string
	Err     error // the cause, for the log
}

func (e *Error) Error() string {
	if e.Err != nil {
		return "service token: " + e.Message + ": " + e.Err.Error()
	}
	return "service token: " + e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, &Error{Kind: k}) compare kinds.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind
}

// Name is the error's name in an XRPC answer, as AT Protocol's own servers call it.
func (e *Error) Name() string {
	switch e.Kind {
	case BadAudience:
		return "BadJwtAudience"
	case BadLxm:
		return "BadJwtLexiconMethod"
	case Expired:
		return "JwtExpired"
	case BadSignature:
		return "BadJwtSignature"
	case Replay:
		return "JwtReplayed"
	case UnknownIssuer:
		return "BadJwtIss"
	case TooMany:
		return "RateLimitExceeded"
	case Unavailable:
		return "UpstreamFailure"
	case WrongScheme:
		return "AuthMissing"
	default:
		return "BadJwt"
	}
}

// Status is the HTTP status of an XRPC answer: 401, 429 or 503.
func (e *Error) Status() int {
	switch e.Kind {
	case TooMany:
		return http.StatusTooManyRequests
	case Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusUnauthorized
	}
}

// KindOf returns an error's kind, or "" when it is none of this package.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}
