package disk

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

// ErrRestoreInProgress: a restore into this folder was begun and not completed.
var ErrRestoreInProgress = errors.New("a restore into this folder was broken off")

const (
	restoreFile = "restore.json"
	// tokenLife is how long a service token may be good, and how far clocks may differ.
	tokenLife = time.Hour + 2*time.Minute
)

// RestoreMark says that a restore into a folder is under way, or when it was done.
type RestoreMark struct {
	From string    `json:"from"` // what is restored, in the caller's words
	Done time.Time `json:"done,omitzero"`
}

// ReadRestoreMark returns nil when the folder has none.
func ReadRestoreMark(dir string) (*RestoreMark, error) {
	b, err := os.ReadFile(filepath.Join(dir, restoreFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m RestoreMark
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, restoreFile), err)
	}
	return &m, nil
}

// Write makes the mark durable.
func (m *RestoreMark) Write(dir string) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, restoreFile), append(b, '\n'), 0o600)
}

// Restored returns when the folder was restored, zero when it never was or that was long ago: for a while after a restore service
// tokens from before it are refused, since which ones were used is not known any more. Errors: [ErrRestoreInProgress].
func Restored(dir string, now time.Time) (time.Time, error) {
	m, err := ReadRestoreMark(dir)
	switch {
	case err != nil || m == nil:
		return time.Time{}, err
	case m.Done.IsZero():
		return time.Time{}, fmt.Errorf("%w: %s is restored in part, from %s: restore again, or empty the folder", ErrRestoreInProgress,
			dir, m.From)
	case now.Sub(m.Done) < tokenLife:
		return m.Done, nil
	}
	return time.Time{}, durable.Remove(filepath.Join(dir, restoreFile))
}
