package plclog

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/internal/durable"
)

func historyFolder(t *testing.T) *Folder {
	t.Helper()
	f, err := Folder{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}.Open()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newKeys(t *testing.T, n int) (keys []atcrypto.PrivateKeyExportable, names []string) {
	t.Helper()
	for range n {
		key, err := NewKey("")
		if err != nil {
			t.Fatal(err)
		}
		pub, err := key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		keys, names = append(keys, key), append(names, pub.DIDKey())
	}
	return keys, names
}

// TestKeyHistory: keys are kept in order, each once in a row; an older one is refused until it is accepted, and is then the newest.
func TestKeyHistory(t *testing.T) {
	f := historyFolder(t)
	keys, names := newKeys(t, 3)
	want := func(what string, err error, order ...int) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		var all []string
		for _, i := range order {
			all = append(all, names[i])
		}
		if got, err := f.KeyHistory(); err != nil || !slices.Equal(got, all) {
			t.Errorf("%s: %v, want %v, %v", what, got, all, err)
		}
	}
	want("unknown, of a folder without a history", f.UseKey(keys[0]), 0)
	want("the same again", f.UseKey(keys[0]), 0)
	want("unknown", f.UseKey(keys[1]), 0, 1)
	want("asking changes nothing", f.CheckKey(keys[2]), 0, 1)
	want("unknown", f.UseKey(keys[2]), 0, 1, 2)
	for _, i := range []int{0, 1} {
		for _, err := range []error{f.CheckKey(keys[i]), f.UseKey(keys[i])} {
			var field *ConfigError
			if !errors.Is(err, ErrKeyReplaced) || !errors.As(err, &field) || field.Field != "AcceptKey" ||
				!strings.Contains(err.Error(), names[i]) || !strings.Contains(err.Error(), names[2]) || !strings.Contains(err.Error(), f.KeyPath) {
				t.Errorf("key %d: %v", i, err)
			}
		}
	}
	want("refused", nil, 0, 1, 2)
	f.AcceptKey = true
	want("accepted", f.UseKey(keys[0]), 0, 1, 2, 0)
	f.AcceptKey = false
	want("the start after that", f.UseKey(keys[0]), 0, 1, 2, 0)
	if err := f.CheckKey(keys[2]); !errors.Is(err, ErrKeyReplaced) {
		t.Errorf("the one that was newest: %v", err)
	}
}

// TestKeyHistoryBegins: of a folder from before there was a history the key that a rotation left beside the new one is known, too.
func TestKeyHistoryBegins(t *testing.T) {
	f := historyFolder(t)
	keys, names := newKeys(t, 2)
	if err := durable.ReplaceSecret(f.KeyPath+OldSuffix, []byte(keys[0].Multibase()+"\n")); err != nil {
		t.Fatal(err)
	}
	if err := f.UseKey(keys[1]); err != nil {
		t.Fatal(err)
	}
	if got, err := f.KeyHistory(); err != nil || !slices.Equal(got, names) {
		t.Error(got, err)
	}
	if err := f.CheckKey(keys[0]); !errors.Is(err, ErrKeyReplaced) {
		t.Error(err)
	}
	if st, err := os.Stat(f.Path(HistoryFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st.Mode(), err)
	}
}

// TestBadHistory: a history that can't be read stops the start, and names file and line.
func TestBadHistory(t *testing.T) {
	f := historyFolder(t)
	keys, names := newKeys(t, 1)
	path := f.Path(HistoryFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		names[0] + "\nnonsense\n":             "line 2",
		"\x00\x00":                            "line 1",
		strings.Repeat("x", 100_000):          "history",
		strings.Repeat("\n", maxHistory+1):    "the limit is",
		"did:key:z" + names[0][9:20] + "\n":   "line 1",
		names[0] + "\n" + names[0] + " twice": "line 2",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.UseKey(keys[0]); !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if err := os.WriteFile(path, []byte("\n "+names[0]+" \r\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.UseKey(keys[0]); err != nil {
		t.Errorf("spaces: %v", err)
	}
}

func FuzzParseHistory(f *testing.F) {
	f.Add([]byte("did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF\n"))
	f.Add([]byte("\n\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := ParseHistory(b)
		if err == nil && len(keys) > 0 {
			if again, err := ParseHistory([]byte(strings.Join(keys, "\n"))); err != nil || !slices.Equal(again, keys) {
				t.Error(again, err)
			}
		}
	})
}
