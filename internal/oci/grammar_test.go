package oci

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

// The specification's own expressions are the oracle.
var (
	nameRE   = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagRE    = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	digestRE = regexp.MustCompile(`^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$`)
)

var grammarSeeds = []string{
	"", "a", "app", "alice.test/app", "a/b/c", "a--b", "a__b", "a___b", "a..b", "a.", ".a", "-a", "a-", "a/", "/a", "a//b", "A", "a/../b", "..",
	"%2e%2e", "a\x00b", "did:plc:x", "a.-b", "latest", "v1.0", "_x", "-x", ".x", "sha256:" + strings.Repeat("a", 64), "sha256:" +
		strings.Repeat("A", 64),
	"sha256:" + strings.Repeat("a", 63), "sha512:" + strings.Repeat("0", 128), "sha384:" +
		strings.Repeat("0", 96), "md5:abc", "sha256:../../etc", "sha256",
	strings.Repeat("a", 255), strings.Repeat("a", 256), strings.Repeat("a", 128), strings.Repeat("a", 129), "a\n", "ä",
}

func checkGrammar(t *testing.T, s string) {
	if err := CheckName(s); (err == nil) != (nameRE.MatchString(s) && len(s) <= 255) || err != nil && !errors.Is(err, ErrName) {
		t.Errorf("CheckName(%q) = %v", s, err)
	}
	if err := CheckTag(s); (err == nil) != tagRE.MatchString(s) || err != nil && !errors.Is(err, ErrTag) {
		t.Errorf("CheckTag(%q) = %v", s, err)
	}
	d, err := ParseDigest(s)
	if (err == nil) != digestRE.MatchString(s) || err != nil && !errors.Is(err, ErrDigest) {
		t.Errorf("ParseDigest(%q) = %v", s, err)
	}
	if err == nil && (d.String() != s || d.Validate() != nil) {
		t.Errorf("ParseDigest(%q) = %q", s, d)
	}
}

func TestGrammar(t *testing.T) {
	for _, s := range grammarSeeds {
		checkGrammar(t, s)
	}
}

func FuzzGrammar(f *testing.F) {
	for _, s := range grammarSeeds {
		f.Add(s)
	}
	f.Fuzz(checkGrammar)
}

func TestCheckMediaType(t *testing.T) {
	for _, s := range []string{
		"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json", MediaTypeDockerManifest, MediaTypeDockerManifestList,
		"application/vnd.example.thing+json",
	} {
		if err := CheckMediaType(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{
		"", "text/html", "image/svg+xml", "application/json", "application/+json", "text/html+json", "application/a+json; charset=utf-8",
		"application/a b+json", "application/a\r\nX: y+json", "application/a/b+json", "application/" + strings.Repeat("a", 250) + "+json",
	} {
		if err := CheckMediaType(s); !errors.Is(err, ErrMediaType) {
			t.Errorf("%q: got %v", s, err)
		}
	}
}
