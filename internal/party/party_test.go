package party_test

import (
	"testing"

	"github.com/atcr-dev/atcr/internal/party"
)

func TestOf(t *testing.T) {
	for did, want := range map[string]string{
		"": "", "did:plc:abc": "did:plc:abc",
		// One who registered a domain is one party.
		"did:web:example.com": "did:web:example.com", "did:web:a.b.example.com": "did:web:example.com",
		"did:web:a.example.co.uk": "did:web:example.co.uk", "did:web:b.a.example.co.uk": "did:web:example.co.uk",
		"did:web:www.alice.github.io": "did:web:alice.github.io", "did:web:a.example.unlisted": "did:web:example.unlisted",
		// Those who have names under one public suffix are not.
		"did:web:alice.co.uk": "did:web:alice.co.uk", "did:web:bob.co.uk": "did:web:bob.co.uk",
		"did:web:alice.github.io": "did:web:alice.github.io", "did:web:bob.pages.dev": "did:web:bob.pages.dev",
		"did:web:a.city.kawasaki.jp": "did:web:city.kawasaki.jp", "did:web:x.alice.foo.ck": "did:web:alice.foo.ck",
		"did:web:github.io": "did:web:github.io", "did:web:uk": "did:web:uk",
		// However it is written.
		"did:web:A.Example.Co.UK": "did:web:example.co.uk", "did:web:a.example.com.": "did:web:example.com",
		"did:web:a.example.com%3A80": "did:web:example.com", "did:web:a.example.com%3a81": "did:web:example.com",
		"did:web:a%2Eexample%2Ecom": "did:web:example.com", "did:web:a.example.com:user": "did:web:example.com",
		"did:web:github.io:user": "did:web:github.io",
		// Services on one machine, in test mode.
		"did:web:localhost%3A80": "did:web:localhost%3A80", "did:web:127.0.0.1%3A80": "did:web:127.0.0.1%3A80",
		"did:web:": "did:web:", "did:web:a..com": "did:web:a..com", "did:web:%zz.com": "did:web:%zz.com",
	} {
		if got := party.Of(did); got != want {
			t.Errorf("%s: %s, want %s", did, got, want)
		}
	}
}
