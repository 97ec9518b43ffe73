package atcr

import (
	"bufio"
	"errors"
	"os"
	"strings"
	"testing"
)

// lines reads a list of cases: one a line, '#' begins a comment.
func lines(t testing.TB, file string) (out []string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if line := s.Text(); !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no cases", file)
	}
	return out
}

func TestReferenceValid(t *testing.T) {
	for _, line := range lines(t, "testdata/reference_valid.txt") {
		in, want, ok := strings.Cut(line, " ")
		if !ok {
			want = in
		}
		r, err := ParseReference(in)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := r.String(); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
		if again, err := ParseReference(want); err != nil || again != r {
			t.Errorf("%s: the normal form is read as %+v, %v", in, again, err)
		}
	}
}

func TestReferenceInvalid(t *testing.T) {
	for _, in := range append(lines(t, "testdata/reference_invalid.txt"), "atcr.io/alice.test/a\x00b", "atcr.io/alice.test/"+
		strings.Repeat("a", 250), "atcr.io/alice.test/app:"+strings.Repeat("a", 129)) {
		if in == "-" {
			in = ""
		}
		r, err := ParseReference(in)
		if err == nil {
			t.Errorf("%q was taken: %+v", in, r)
		} else if !errors.Is(err, ErrReference) && !errors.Is(err, ErrIdentity) {
			t.Errorf("%q: %v is of no kind", in, err)
		}
	}
}

func TestReferenceParts(t *testing.T) {
	r, err := ParseReference("atcr.io/did:plc:ewvi7nxzyoun6zhxrhs64oiz/stream/cache:v1@sha256:" + hexA)
	want := Reference{"atcr.io", didA, "stream/cache", "v1", "sha256:" + hexA}
	if err != nil || r != want {
		t.Errorf("got %+v, %v", r, err)
	}
	if r.Name() != "did-plc-ewvi7nxzyoun6zhxrhs64oiz/stream/cache" {
		t.Error(r.Name())
	}
}

func FuzzParseReference(f *testing.F) {
	for _, file := range []string{"testdata/reference_valid.txt", "testdata/reference_invalid.txt"} {
		for _, line := range lines(f, file) {
			in, _, _ := strings.Cut(line, " ")
			f.Add(in)
		}
	}
	f.Fuzz(func(t *testing.T, in string) {
		r, err := ParseReference(in)
		if err != nil {
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Fatalf("%q: %+v is written %q and read as %+v, %v", in, r, r.String(), again, err)
		}
	})
}

func TestParseIdentity(t *testing.T) {
	for _, c := range []struct{ in, want, path string }{
		{"alice.test", "alice.test", "alice.test"},
		{"Alice.Test", "alice.test", "alice.test"},
		{"did:plc:ewvi7nxzyoun6zhxrhs64oiz", didA, "did-plc-ewvi7nxzyoun6zhxrhs64oiz"},
		{"did-plc-ewvi7nxzyoun6zhxrhs64oiz", didA, "did-plc-ewvi7nxzyoun6zhxrhs64oiz"},
		{"did:web:example.com", "did:web:example.com", "did_web_example.com"},
		{"did_web_example.com", "did:web:example.com", "did_web_example.com"},
		{"did:web:localhost:8080", "did:web:localhost%3A8080", ""},
		{"did:key:zQ3sh", "did:key:zQ3sh", ""},
		{"alice", "", ""}, {"", "", ""}, {"did:", "", ""}, {"did:plc:x", "", ""}, {"alice.test/app", "", ""}, {"@alice.test", "", ""},
	} {
		got, err := ParseIdentity(c.in)
		if string(got) != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrIdentity) {
			t.Errorf("%q: got %q, %v", c.in, got, err)
		}
		if got.Path() != c.path {
			t.Errorf("%q: Path is %q, want %q", c.in, got.Path(), c.path)
		}
		if got.IsDID() != strings.HasPrefix(c.want, "did:") {
			t.Errorf("%q: IsDID is %v", c.in, got.IsDID())
		}
	}
}

func TestRewriteName(t *testing.T) {
	for in, want := range map[string]string{
		"did:plc:ewvi7nxzyoun6zhxrhs64oiz/a/b": "did-plc-ewvi7nxzyoun6zhxrhs64oiz/a/b",
		"did:web:example.com/app":              "did_web_example.com/app",
		"did:web:localhost:8080/app":           "did:web:localhost:8080/app",
		"did:plc:short/app":                    "did:plc:short/app",
		"did:plc:ewvi7nxzyoun6zhxrhs64oiz":     "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
		"alice.test/app":                       "alice.test/app",
		"app":                                  "app",
		"":                                     "",
	} {
		if got := RewriteName(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
