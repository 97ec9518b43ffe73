package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/durable"
)

const (
	one = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	two = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
)

func load(t *testing.T, content, label string) (*Keys, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.key")
	if err := durable.CreateSecret(path, []byte(content)); err != nil {
		t.Fatal(err)
	}
	k, created, err := Load(path, label)
	if created {
		t.Error("it says that it made the file")
	}
	return k, err
}

func must(t *testing.T, content, label string) *Keys {
	t.Helper()
	k, err := load(t, content, label)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestMadeWhenMissing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "x.key")
	k, created, err := Load(path, "test")
	if err != nil || !created || k.Len() != 1 {
		t.Fatalf("%v, created %v", err, created)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want mode 0600", st.Mode(), err)
	}
	sealed := k.Seal([]byte("place"), []byte("secret"))
	again, created, err := Load(path, "test")
	if err != nil || created {
		t.Fatalf("%v, created %v", err, created)
	}
	if plain, key, err := again.Open([]byte("place"), sealed); err != nil || key != 0 || string(plain) != "secret" {
		t.Errorf("%q by key %d, %v", plain, key, err)
	}
	if bytes.Contains(sealed, []byte("secret")) {
		t.Error("the secret can be read")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(path, "test"); !errors.Is(err, durable.ErrPermissions) {
		t.Errorf("a file that others can read: %v", err)
	}
}

func TestBound(t *testing.T) {
	k := must(t, one, "test")
	sealed := k.Seal([]byte("a"), []byte("secret"))
	if bytes.Equal(sealed, k.Seal([]byte("a"), []byte("secret"))) {
		t.Error("two seals are the same bytes")
	}
	for name, c := range map[string]struct {
		keys   *Keys
		bound  string
		sealed []byte
	}{
		"another place": {k, "b", sealed},
		"no place":      {k, "", sealed},
		"another key":   {must(t, two, "test"), "a", sealed},
		"another label": {must(t, one, "other"), "a", sealed},
		"cut":           {k, "a", sealed[:len(sealed)-1]},
		"empty":         {k, "a", nil},
	} {
		if _, _, err := c.keys.Open([]byte(c.bound), c.sealed); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v, want ErrSealed", name, err)
		}
	}
}

func TestSeveralKeys(t *testing.T) {
	old, both := must(t, one, "test"), must(t, "# the new one\n"+two+"\n\n  "+one+"  \n", "test")
	if both.Len() != 2 {
		t.Fatalf("%d keys", both.Len())
	}
	if plain, key, err := both.Open(nil, old.Seal(nil, []byte("x"))); err != nil || key != 1 || string(plain) != "x" {
		t.Errorf("%q by key %d, %v", plain, key, err)
	}
	if _, key, err := both.Open(nil, both.Seal(nil, []byte("x"))); err != nil || key != 0 {
		t.Errorf("key %d seals, %v", key, err)
	}
	if !bytes.Equal(both.MAC(1, []byte("m")), old.MAC(0, []byte("m"))) || bytes.Equal(both.MAC(0, []byte("m")), old.MAC(0, []byte("m"))) {
		t.Error("MACs are not by the key that was asked for")
	}
}

// TestDerived holds what data folders depend on: these bytes came from the version before there was this package.
func TestDerived(t *testing.T) {
	k := must(t, one, "atcr session")
	const want = "3ede13b162dec0e49b47b72c6184269977eb378cee11e8ee5e58768af1bb1d8a"
	if got := hex.EncodeToString(k.MAC(0, []byte("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa\x00password"))); got != want {
		t.Errorf("MAC %s, want %s", got, want)
	}
	sealed, err := hex.DecodeString("8495cf1c146ab8a815c543765e69ea4fb8483cbe6d6ef98660a509a3abddf241b1")
	if err != nil {
		t.Fatal(err)
	}
	if plain, _, err := k.Open([]byte("bound"), sealed); err != nil || string(plain) != "plain" {
		t.Errorf("%q, %v", plain, err)
	}
}

func TestFilesThatAreNoKeys(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"empty":    {"", "has 0 keys"},
		"comments": {"# none\n", "has 0 keys"},
		"short":    {one + "\nMDEy\n", "line 2 is not 32 bytes"},
		"no text":  {"\x00\xff", "line 1 is not 32 bytes"},
		"too many": {strings.Repeat(one+"\n", MaxKeys+1), "has 17 keys"},
	} {
		if _, err := load(t, c.content, "test"); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "x.key") {
			t.Errorf("%s: %v, want %q and the file's name", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n# x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parse(b)
		if (err == nil) != (len(keys) > 0) || len(keys) > MaxKeys {
			t.Fatal(len(keys), err)
		}
		for _, k := range keys {
			if len(k) != 32 {
				t.Fatal(len(k))
			}
		}
	})
}
