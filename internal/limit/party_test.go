package limit

import "testing"

func TestParty(t *testing.T) {
	for did, want := range map[string]string{
		"did:plc:abc": "did:plc:abc", "did:web:example.com": "did:web:example.com", "did:web:a.b.example.com": "did:web:example.com",
		"did:web:localhost%3A80": "did:web:localhost%3A80", "did:web:example.com:user": "did:web:example.com", "": "",
	} {
		if got := Party(did); got != want {
			t.Errorf("%s: %s, want %s", did, got, want)
		}
	}
}
