package identity

import (
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// FuzzHandleAnswers: what a domain says of a handle, by DNS or HTTPS, is a DID or an error.
func FuzzHandleAnswers(f *testing.F) {
	const did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	for _, s := range []string{"did=" + did, did, did + "\n", " did=" + did + " ", "did=" + did + "|did=" + did, "did=" + did + "|did=did:web:a.example", "did=",
		"DID=" + did, "v=spf1|did=" + did, "did=did:web:a.example%3A80", "<html>", "did:web:a\x00b", strings.Repeat("did=", 1000), "did=did:x:y z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		check := func(what string, got syntax.DID, err error) {
			t.Helper()
			if err == nil {
				if again, err := syntax.ParseDID(got.String()); err != nil || again != got || !strings.Contains(text, got.String()) {
					t.Fatalf("%s %q names %q", what, text, got)
				}
			} else if got != "" || len(err.Error()) > 1000 {
				t.Fatalf("%s %q: %q and %d bytes of error", what, text, got, len(err.Error()))
			}
		}
		got, err := parseHandleDID(text)
		check("the page", got, err)
		records := strings.Split(text, "|")
		got, err = parseTXT(records)
		check("the records", got, err)
		if err == nil {
			for _, r := range records { // none of them says otherwise
				if v, ok := strings.CutPrefix(strings.TrimSpace(r), "did="); ok && strings.TrimSpace(v) != got.String() {
					t.Fatalf("%q names %q, taken was %q", records, v, got)
				}
			}
		}
	})
}
