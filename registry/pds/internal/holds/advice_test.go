package holds

import (
	"errors"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/registry"
)

// A refusal by a hold keeps its kind and the hold's own advice, and gives none that does not fit.
func TestAdvice(t *testing.T) {
	for _, test := range []struct {
		kind, want error
		name       string
		says, not  string
	}{
		{holdclient.ErrQuotaExceeded, registry.ErrDenied, "TooManyLeases", "push the manifests", "quota"},
		{holdclient.ErrQuotaExceeded, registry.ErrDenied, "QuotaExceeded", "quota", "manifests that"},
		{holdclient.ErrNoSpace, registry.ErrNoSpace, "InsufficientStorage", "captain can help", ""},
		{holdclient.ErrRateLimited, registry.ErrTooManyRequests, "TooManyOpenUploads", "abort some", "slow down"},
		{holdclient.ErrRateLimited, registry.ErrTooManyRequests, "RateLimitExceeded", "slow down", "uploads"},
		{holdclient.ErrInvalidUpload, registry.ErrUploadInvalid, "InvalidPartNumber", "1 to 10000", "start a new one"},
		{holdclient.ErrInvalidUpload, registry.ErrUploadUnknown, "InvalidUploadId", "start a new one", ""},
		{holdclient.ErrUnauthorized, registry.ErrDenied, "ExpiredToken", "sign in again", "crew add"},
		{holdclient.ErrForbidden, registry.ErrDenied, "Forbidden", "crew add", "sign in"},
	} {
		message := map[string]string{
			"TooManyLeases": "push the manifests of those that were uploaded before", "InsufficientStorage": "its captain can help",
			"TooManyOpenUploads": "complete or abort some", "InvalidPartNumber": "want 1 to 10000",
		}[test.name]
		err := Error("did:web:hold.test", &holdclient.Error{Kind: test.kind, Name: test.name, Message: message})
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "did:web:hold.test") {
			t.Errorf("%s: %v", test.name, err)
		}
		var e *registry.Error
		if errors.As(err, &e); test.not != "" && strings.Contains(e.Message, test.not) {
			t.Errorf("%s: %q has %q", test.name, e.Message, test.not)
		}
	}
}
