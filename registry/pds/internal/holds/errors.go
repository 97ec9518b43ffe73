package holds

import (
	"context"
	"errors"
	"time"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/registry"
)

// Error turns an error of a hold into one of the registry that names the hold.
func Error(hold string, err error) error {
	if err == nil {
		return nil
	}
	if e := (*registry.Error)(nil); errors.As(err, &e) {
		return err // of the session, on the way to a token
	}
	var wait time.Duration
	name, message := "", ""
	if e := (*holdclient.Error)(nil); errors.As(err, &e) {
		wait, name, message = e.RetryAfter, e.Name, e.Message
		if message != "" {
			message = ": " + clip(message)
		}
	}
	with := func(kind *registry.Error, format string, args ...any) error {
		e := kind.With(format, args...).Wrap(err)
		e.RetryAfter = wait
		return e
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, holdclient.ErrUnavailable):
		return err
	case errors.Is(err, holdclient.ErrNotAllowed):
		return with(registry.ErrDenied, "the hold %s can't be used: its address is not public, or not one that this registry may ask", hold)
	case errors.Is(err, holdclient.ErrNotFound):
		return with(registry.ErrBlobUnknown, "the hold %s has no such blob", hold)
	case errors.Is(err, holdclient.ErrUnauthorized):
		return with(registry.ErrDenied, "the hold %s does not take your account's token%s: sign in again; if that does not help, "+
			"its captain can see why", hold, message)
	case errors.Is(err, holdclient.ErrForbidden):
		return with(registry.ErrDenied, "the hold %s refuses%s: its captain can let you in (atcr-hold crew add HANDLE)", hold, message)
	case errors.Is(err, holdclient.ErrLinkRefused):
		return with(registry.ErrDenied, "the hold %s names an address to which this registry sends nobody%s "+
			"(with server.redirect: false it would give the bytes itself)", hold, message)
	case name == "TooManyLeases":
		return with(registry.ErrDenied, "the hold %s keeps no more blobs for you%s", hold, message)
	case errors.Is(err, holdclient.ErrQuotaExceeded):
		return with(registry.ErrDenied, "the quota at the hold %s is used up%s", hold, message)
	case errors.Is(err, holdclient.ErrNoSpace):
		err = errors.Join(err, registry.ErrUnavailable) // the log tells it from this server's own
		return with(registry.ErrNoSpace, "the hold %s has no space left%s", hold, message)
	case name == "TooManyOpenUploads":
		return with(registry.ErrTooManyRequests, "the hold %s has too many of your uploads%s", hold, message)
	case errors.Is(err, holdclient.ErrRateLimited):
		wait = max(wait, time.Second)
		return with(registry.ErrTooManyRequests, "the hold %s asks to slow down%s", hold, message)
	case name == "InvalidPartNumber":
		return with(registry.ErrUploadInvalid, "the hold %s takes no further part of this upload%s", hold, message)
	case errors.Is(err, holdclient.ErrInvalidDigest):
		return with(registry.ErrDigestInvalid, "the hold %s does not take this digest, or the bytes are something else%s", hold, message)
	case errors.Is(err, holdclient.ErrInvalidUpload), errors.Is(err, holdclient.ErrMissingParts):
		return with(registry.ErrUploadUnknown, "the hold %s does not know this upload: start a new one by POST", hold)
	case errors.Is(err, holdclient.ErrInvalid):
		return with(registry.ErrManifestInvalid, "the hold %s refuses it%s", hold, message)
	}
	wait = max(wait, 5*time.Second)
	return with(registry.ErrUnavailable, "the hold %s does not answer%s: try again later", hold, message)
}

func clip(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return s
}
