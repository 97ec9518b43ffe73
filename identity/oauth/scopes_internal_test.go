package oauth

import (
	"slices"
	"strings"
	"testing"
)

func TestMissingScopes(t *testing.T) {
	for _, c := range []struct{ asked, granted, missing string }{
		{"atproto", "atproto", ""},
		{"atproto", "", "atproto"},
		{"atproto repo:io.atcr.tag", "atproto", "repo:io.atcr.tag"},
		{"repo:io.atcr.tag", "repo:io.atcr.tag?action=create&action=update&action=delete", ""},
		{"repo:io.atcr.tag", "repo:io.atcr.tag?action=create", "repo:io.atcr.tag"},
		{"repo:io.atcr.tag", "repo:io.atcr.tag?action=create&action=update repo:*?action=delete", ""},
		{"repo:io.atcr.tag?action=create", "repo:io.atcr.tag", ""},
		{"repo:io.atcr.tag repo:io.atcr.manifest", "repo?collection=io.atcr.manifest&collection=io.atcr.tag", ""},
		{"repo:io.atcr.tag repo:io.atcr.manifest", "repo?collection=io.atcr.manifest", "repo:io.atcr.tag"},
		{"repo:io.atcr.tag", "repo:*", ""},
		{"repo:*", "repo:io.atcr.tag", "repo:*"},
		{"blob:*/*", "blob:*/*", ""},
		{"blob:*/*", "blob:image/*", "blob:*/*"},
		{"blob:image/png", "blob:image/*", ""},
		{"blob:image/png", "blob?accept=text/plain&accept=IMAGE/PNG", ""},
		{"blob:image/*", "blob:*/*", ""},
		{"blob:imagery/png", "blob:image/*", "blob:imagery/png"},
		{"rpc:a.b.c?aud=*", "rpc:a.b.c?aud=%2A", ""},
		{"rpc:a.b.c?aud=*", "rpc:a.b.c?aud=did:web:hold.test%23atcr_hold", "rpc:a.b.c?aud=*"},
		{"rpc:a.b.c?aud=did:web:x%23s", "rpc?lxm=a.b.c&lxm=a.b.d&aud=did:web:x%23s", ""},
		{"rpc:a.b.c?aud=did:web:x%23s", "rpc:*?aud=did:web:x%23s", ""},
		{"rpc:a.b.c?aud=*", "rpc:a.b.d?aud=*", "rpc:a.b.c?aud=*"},
		{"rpc:a.b.c", "rpc:a.b.c?aud=*", "rpc:a.b.c"}, // no scope at all: the audience is required
		{"atproto repo:x.y.z blob:*/* rpc:a.b.c?aud=*", "atproto transition:generic", ""},
		{"rpc:chat.bsky.x?aud=*", "atproto transition:generic", "rpc:chat.bsky.x?aud=*"},
		{"account:email", "transition:generic", "account:email"},
		{"account:email", "account:email", ""},
		{"include:io.atcr.set repo:x.y.z", "repo:x.y.z", ""},
		{"repo:x.y.z", "repo:x.y.z?action=%zz", "repo:x.y.z"},
		{"repo:x.y.z", "repo:x.y.z?collection=a.b.c", "repo:x.y.z"},
	} {
		got := missingScopes(strings.Fields(c.asked), strings.Fields(c.granted))
		if strings.Join(got, " ") != c.missing {
			t.Errorf("asked %q, granted %q: missing %q, want %q", c.asked, c.granted, got, c.missing)
		}
	}
}

func TestAskedScopes(t *testing.T) {
	got := askedScopes([]string{"repo:a.b.c", " ", "atproto", "repo:a.b.c", "blob:*/*"})
	if want := []string{"atproto", "repo:a.b.c", "blob:*/*"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWishes(t *testing.T) {
	for asked, want := range map[string]string{
		"atproto":                               "atproto",
		"atproto repo:a.b.c":                    "atproto repo:a.b.c | atproto transition:generic",
		"atproto include:a.b.c repo:a.b.c":      "atproto include:a.b.c repo:a.b.c | atproto repo:a.b.c | atproto transition:generic",
		"atproto include:a.b.c":                 "atproto include:a.b.c | atproto transition:generic",
		"atproto account:email repo:a.b.c":      "atproto account:email repo:a.b.c", // the general one does not have the address
		"atproto transition:generic":            "atproto transition:generic",
		"atproto repo:a.b.c transition:generic": "atproto repo:a.b.c transition:generic",
	} {
		var got []string
		for _, scopes := range wishes(strings.Fields(asked)) {
			got = append(got, strings.Join(scopes, " "))
		}
		if s := strings.Join(got, " | "); s != want {
			t.Errorf("%q is asked as %q, want %q", asked, s, want)
		}
	}
}
