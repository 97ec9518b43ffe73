package registry

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

// Messages quote what untrusted PDSes and holds say, and clients print them as they come.
func TestMessagesAreForTerminals(t *testing.T) {
	t.Parallel()
	e := ErrDenied.With("the hold refuses: \x1b]0;owned\x07\x1b[2J\r\n\u202eevil\u009b1m \u00e9t\u00e9")
	var out struct{ Errors []struct{ Message string } }
	if err := json.Unmarshal(e.body(), &out); err != nil {
		t.Fatal(err)
	}
	text := out.Errors[0].Message
	if strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) || !strings.Contains(text, "\u00e9t\u00e9") {
		t.Errorf("%q", text)
	}
}
