package atcr

import (
	"errors"
	"testing"
)

func TestHoldDID(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"did:web:hold01.example.com", "did:web:hold01.example.com"},
		{" did:web:Hold01.example.com ", "did:web:hold01.example.com"},
		{"did:web:127.0.0.1:8080", "did:web:127.0.0.1%3A8080"},
		{"did:web:127.0.0.1%3a8080", "did:web:127.0.0.1%3A8080"},
		{"did:web:localhost%3A8080", "did:web:localhost%3A8080"},
		{didA, didA},
		{"https://hold01.example.com", "did:web:hold01.example.com"},
		{"https://hold01.example.com:443/", "did:web:hold01.example.com"},
		{"http://hold01.example.com:80", "did:web:hold01.example.com"},
		{"https://hold01.example.com:8443/xrpc", "did:web:hold01.example.com%3A8443"},
		{"http://127.0.0.1:8080", "did:web:127.0.0.1%3A8080"},
		{"", ""}, {"hold01.example.com", ""}, {"ftp://x.test", ""}, {"https://", ""}, {"https://u:p@x.test", ""}, {"did:web:a:b", ""},
		{"did:web:x.test%2Fpath", ""}, {"did:web:x.test:0", ""}, {"did:web:x.test:080", ""}, {"did:plc:x", ""}, {"http://[::1]:80",
			""}, {"did:web:%zz", ""},
	} {
		got, err := HoldDID(c.in)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrDID) {
			t.Errorf("%q: got %q, %v, want %q", c.in, got, err, c.want)
		}
	}
}

func TestDIDWebURL(t *testing.T) {
	for _, c := range []struct {
		did  string
		test bool
		want string
	}{
		{"did:web:x.test", false, "https://x.test"},
		{"did:web:x.test", true, "https://x.test"},
		{"did:web:x.test%3A8443", false, "https://x.test:8443"},
		{"did:web:127.0.0.1:8080", true, "http://127.0.0.1:8080"},
		{"did:web:localhost%3A8080", true, "http://localhost:8080"},
		{"did:web:localhost%3A8080", false, "https://localhost:8080"},
		{didA, true, ""},
	} {
		if got := DIDWebURL(c.did, c.test); got != c.want {
			t.Errorf("%s: got %q, want %q", c.did, got, c.want)
		}
	}
}

func TestSameDID(t *testing.T) {
	for _, c := range []struct {
		a, b       string
		test, same bool
	}{
		{"did:web:127.0.0.1%3A8080", "did:web:localhost%3A8080", true, true},
		{"did:web:127.0.0.1:8080", "did:web:localhost:8080", true, true},
		{"did:web:127.0.0.1%3A8080", "did:web:localhost%3A8080", false, false},
		{"did:web:127.0.0.1%3A8080", "did:web:localhost%3A8081", true, false},
		{"did:web:127.0.0.1", "did:web:localhost", true, true},
		{"did:web:localhost.example.com", "did:web:127.0.0.1.example.com", true, false},
		{"did:web:X.test", "did:web:x.test", false, true},
		{"", "", true, false},
	} {
		if got := SameDID(c.a, c.b, c.test); got != c.same {
			t.Errorf("%s, %s, %v: got %v", c.a, c.b, c.test, got)
		}
	}
	if got := LoopbackTwin("did:web:127.0.0.1:8080"); got != "did:web:localhost%3A8080" {
		t.Error(got)
	}
	if got := LoopbackTwin("did:web:x.test"); got != "" {
		t.Error(got)
	}
}

func TestParseURI(t *testing.T) {
	const good = "at://" + didA + "/io.atcr.manifest/" + hexA
	if u, err := ParseURI(good); err != nil || u != (URI{didA, NSIDManifest, hexA}) || u.String() != good {
		t.Errorf("got %+v, %v", u, err)
	}
	for _, s := range []string{"", "at://", "at://alice.test/a.b.c/x", "https://x", "at://" + didA, "at://" + didA + "/a.b.c",
		"at://" + didA + "/a.b.c/", "at://" + didA + "/nodots/x", "at://" + didA + "/a.b.c/x/y", "at://" + didA + "/a.b.c/..", "at://" +
			didA + "/a.b.c/x#y"} {
		if u, err := ParseURI(s); !errors.Is(err, ErrURI) {
			t.Errorf("%q: got %+v, %v", s, u, err)
		}
	}
}
