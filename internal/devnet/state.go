package devnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/atcr-dev/atcr/internal/durable"
)

// pdsState is what pds.json holds. It is small and rewritten whole.
type pdsState struct {
	JWTSecret   []byte          `json:"jwtSecret"`
	RotationKey string          `json:"rotationKey"` // multibase
	Accounts    []*accountState `json:"accounts"`
}

type accountState struct {
	Handle       string             `json:"handle"`
	DID          string             `json:"did"`
	Password     string             `json:"password"` // readable: the sandbox prints it
	Key          string             `json:"key"`      // signing key, multibase
	Genesis      json.RawMessage    `json:"genesis"`  // the operation that made the DID, kept until and after it was submitted
	AppPasswords []*appPassword     `json:"appPasswords,omitempty"`
	Refresh      map[string]refresh `json:"refresh,omitempty"` // live refresh tokens by id
}

type appPassword struct {
	Name       string    `json:"name"`
	Hash       []byte    `json:"hash"`
	Privileged bool      `json:"privileged"`
	CreatedAt  time.Time `json:"createdAt"`
}

// refresh is a refresh token that may still be used.
type refresh struct {
	Expires     time.Time `json:"expires"`
	AppPassword string    `json:"appPassword,omitempty"` // name of the one it was made with
	Next        string    `json:"next,omitempty"`        // id of the token that replaced it
}

// Bounds of what untrusted users can make us keep.
const (
	maxRefresh      = 1000 // for an account
	maxAppPasswords = 100
)

func statePath(dir string) string { return filepath.Join(dir, "pds.json") }

func loadState(dir string) (*pdsState, error) {
	data, err := os.ReadFile(statePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var s pdsState
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return nil, fmt.Errorf("read the accounts: %w", err)
	}
	return &s, nil
}

func (s *pdsState) save(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		err = durable.WriteFile(statePath(dir), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the accounts: %w", err)
	}
	return nil
}
