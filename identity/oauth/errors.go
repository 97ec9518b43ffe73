package oauth

import (
	"errors"
	"fmt"
	"time"
)

// Kinds of errors; compare with errors.Is. The functions of this package return an [*Error] of one of them for whatever the person or
// the account's server has to do with; other errors are the database's, the context's or the program's.
var (
	// ErrEnded: the grant is over, or unknown. Signing in again is the remedy; the message says why it ended.
	ErrEnded = errors.New("the sign-in has ended")
	// ErrUnavailable: the account's server, or what says where it is, does not answer as it should. Trying again later may help.
	ErrUnavailable = errors.New("the account's server does not answer")
	// ErrTooManyRequests: the account's server asks to wait, for [Error].RetryAfter.
	ErrTooManyRequests = errors.New("the account's server asks to wait")
	// ErrDenied: the person said no, or granted too little; the message names what is missing.
	ErrDenied = errors.New("the sign-in does not allow it")
	// ErrUnsupported: the account's server has no OAuth that could be used. An app password is the remedy.
	ErrUnsupported = errors.New("the account's server has no OAuth")
	// ErrAccount: there is no such account, or what was typed names none.
	ErrAccount = errors.New("no such account")
	// ErrState: a callback that belongs to no sign-in that was begun in this browser, or to one that is over or was used.
	ErrState = errors.New("the sign-in is not known here")
)

// Error is what happened, in a sentence for the person.
type Error struct {
	Kind       error  // one of the kinds, such as ErrEnded
	Message    string // for people: what happened and what they can do
	RetryAfter time.Duration
	Err        error // the cause, for the log; nil: none
}

// Error is the message, and the cause behind it.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// failed makes an error of a kind, with a cause or nil.
func failed(kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Err: cause}
}
