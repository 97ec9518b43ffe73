package holdcli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
)

// Unlock is how an identity in a set is read.
type Unlock struct {
	AgeKey     string `help:"File of age private keys that may read the identity; else a passphrase." placeholder:"FILE"`
	Passphrase string `name:"passphrase-file" help:"File whose first line is the passphrase; else ATCR_PASSPHRASE." placeholder:"FILE"`
}

// Keys are who reads the identity; none when nothing was given.
func (u *Unlock) Keys() ([]age.Identity, error) {
	if u.AgeKey != "" {
		f, err := os.Open(u.AgeKey)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		keys, err := age.ParseIdentities(f)
		if err != nil {
			return nil, fmt.Errorf("--age-key %s: it holds no private keys of age: %w", u.AgeKey, err)
		}
		return keys, nil
	}
	if u.Passphrase == "" && os.Getenv("ATCR_PASSPHRASE") == "" {
		return nil, nil
	}
	secret, err := Passphrase(u.Passphrase)
	if err != nil {
		return nil, err
	}
	one, err := age.NewScryptIdentity(secret)
	return []age.Identity{one}, err
}

// ByPassphrase encrypts by the passphrase; work is its work factor, 0 age's own.
func ByPassphrase(file string, work int) (age.Recipient, error) {
	secret, err := Passphrase(file)
	if err != nil {
		return nil, err
	}
	r, err := age.NewScryptRecipient(secret)
	if err == nil && work > 0 {
		r.SetWorkFactor(work)
	}
	return r, err
}

// Passphrase reads it from a file, or ATCR_PASSPHRASE.
func Passphrase(file string) (string, error) {
	secret := os.Getenv("ATCR_PASSPHRASE")
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if secret, err = FirstLine(f); err != nil {
			return "", fmt.Errorf("--passphrase-file %s: %w", file, err)
		}
	}
	if secret == "" {
		return "", errors.New("no passphrase: give --passphrase-file FILE or ATCR_PASSPHRASE, or a key of age")
	}
	return secret, nil
}

// FirstLine reads a line of at most 4096 bytes, without the spaces around it.
func FirstLine(r io.Reader) (string, error) {
	text, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(text), nil
}

// Opened is an error in the words of who gave a key or a passphrase that is not the right one.
func (u *Unlock) Opened(err error) error {
	var none *age.NoIdentityMatchError
	switch {
	case !errors.As(err, &none):
		return err
	case u.AgeKey != "":
		return fmt.Errorf("the identity is for another key than those of --age-key %s: it can't be decrypted", u.AgeKey)
	}
	return fmt.Errorf("wrong passphrase: the identity can't be decrypted by it")
}
