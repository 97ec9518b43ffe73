package local

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"

	"github.com/atcr-dev/atcr/internal/sqlx"
)

// uploadIDs tie an upload of the store, which knows no repositories, to the one it was begun for: what a client is given is the
// store's id and a MAC of it and the repository's name. It also remembers who began an upload, in memory alone.
type uploadIDs struct {
	key []byte

	mu sync.Mutex
	by map[string]string // id of the store to account
}

// maxRemembered bounds how many uploads are remembered with their accounts; others are nobody's.
const maxRemembered = 10_000

func newUploadIDs(ctx context.Context, db *sqlx.DB) (*uploadIDs, error) {
	fresh := make([]byte, 32)
	_, _ = rand.Read(fresh) // never fails
	_, err := db.Write().ExecContext(ctx, `insert into local_meta (name, value) values ('upload_key', $1) on conflict do nothing`,
		base64.StdEncoding.EncodeToString(fresh))
	var text string
	if err == nil {
		err = db.Read().QueryRowContext(ctx, `select value from local_meta where name = 'upload_key'`).Scan(&text)
	}
	if err != nil {
		return nil, fmt.Errorf("key of uploads: %w", sqlx.Wrap(err))
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("key of uploads in the table local_meta is none: delete the row upload_key")
	}
	return &uploadIDs{key: key, by: map[string]string{}}, nil
}

// give returns what a client is told.
func (u *uploadIDs) give(repository, id string) string {
	mac := hmac.New(sha256.New, u.key)
	mac.Write([]byte(id + "\n" + repository))
	return id + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// take returns the store's id, and whether it was given for this repository.
func (u *uploadIDs) take(repository, given string) (id string, ok bool) {
	i := strings.LastIndexByte(given, '.')
	if i < 0 {
		return "", false
	}
	id = given[:i]
	return id, subtle.ConstantTimeCompare([]byte(u.give(repository, id)), []byte(given)) == 1
}

func (u *uploadIDs) begun(id, account string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if account == "" {
		return
	}
	if len(u.by) >= maxRemembered {
		clear(u.by)
	}
	u.by[id] = account
}

func (u *uploadIDs) ended(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.by, id)
}

// account is empty when it isn't known.
func (u *uploadIDs) account(id string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.by[id]
}
