package plclog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/internal/durable"
)

// maxHistory is how long the history of signing keys may be, in bytes: a key has some 60.
const maxHistory = 1 << 20

// KeyHistory returns the signing keys that have been in use, as did:key, the newest last.
func (f *Folder) KeyHistory() ([]string, error) {
	path := f.Path(HistoryFile)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the history of signing keys: %w", err)
	}
	if st.Size() > maxHistory {
		return nil, fmt.Errorf("%w: %s has %d bytes, the limit is %d: remove its first lines", ErrKeyFile, path, st.Size(), maxHistory)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the history of signing keys: %w", err)
	}
	keys, err := ParseHistory(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKeyFile, path, err)
	}
	return keys, nil
}

// ParseHistory reads lines of did:key. Empty lines are left out.
func ParseHistory(b []byte) (keys []string, err error) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		key := strings.TrimSpace(lines.Text())
		if key == "" {
			continue
		}
		if _, err := atcrypto.ParsePublicDIDKey(key); err != nil {
			return nil, fmt.Errorf("line %d is no public key as did:key:z…: remove it, or bring the file back from a backup", n)
		}
		keys = append(keys, key)
	}
	return keys, lines.Err()
}

// CheckKey refuses a signing key that others have followed, unless AcceptKey is set. One that was never in use passes. Errors:
// ErrKeyReplaced in a [ConfigError]; ErrKeyFile for a history that can't be read.
func (f *Folder) CheckKey(key atcrypto.PrivateKey) error {
	_, _, err := f.checkKey(key)
	return err
}

// checkKey is CheckKey, and returns the key's name and the history.
func (f *Folder) checkKey(key atcrypto.PrivateKey) (name string, history []string, err error) {
	pub, err := key.PublicKey()
	if err != nil {
		return "", nil, err
	}
	name = pub.DIDKey()
	history, err = f.KeyHistory()
	if err != nil || f.AcceptKey || !slices.Contains(history, name) || history[len(history)-1] == name {
		return name, history, err
	}
	return "", nil, &ConfigError{"AcceptKey", fmt.Errorf("%w: %s holds %s, and %s has signed since (%s): who knows that takes what the "+
		"older one signs for forged. Put the newer key back, or set this for one start to go on with the older one",
		ErrKeyReplaced, f.KeyPath, name, history[len(history)-1], f.Path(HistoryFile))}
}

// UseKey is [Folder.CheckKey], and makes the key the newest of the history.
func (f *Folder) UseKey(key atcrypto.PrivateKey) error {
	name, history, err := f.checkKey(key)
	if err != nil {
		return err
	}
	if len(history) == 0 { // a folder from before there was one
		if old, err := LoadKey(f.KeyPath + OldSuffix); err == nil {
			if before, err := old.PublicKey(); err == nil {
				history = []string{before.DIDKey()}
			}
		}
	}
	if n := len(history); n > 0 && history[n-1] == name {
		return nil
	}
	return f.WriteHistory(append(history, name))
}

// WriteHistory replaces the history.
func (f *Folder) WriteHistory(keys []string) error {
	path := f.Path(HistoryFile)
	if err := durable.ReplaceSecret(path, []byte(strings.Join(keys, "\n")+"\n")); err != nil {
		return fmt.Errorf("writing the history of signing keys: %w", err)
	}
	f.sameOwner(path, f.KeyPath)
	return nil
}
