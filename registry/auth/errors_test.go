package auth

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"

	"github.com/atcr-dev/atcr/registry"
)

// A message may quote a PDS, which is untrusted, and clients print it as it comes.
func TestMessagesAreForTerminals(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	writeError(w, registry.ErrDenied.With("the server says: \x1b]0;owned\x07\x1b[2J\u202eevil été"))
	var out struct{ Errors []struct{ Message string } }
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	text := out.Errors[0].Message
	if strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) || !strings.Contains(text, "été") {
		t.Errorf("%q", text)
	}
}
