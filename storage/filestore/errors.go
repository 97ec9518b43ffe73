package filestore

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/atcr-dev/atcr/storage"
)

// ErrClosed: the store was closed.
var ErrClosed = errors.New("filestore is closed")

// isMissing is true also where somebody else's file stands in the place of a folder.
func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// failed says what was being done and makes a full disk or quota ErrNoSpace.
func failed(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%s: %w: %w", doing, storage.ErrNoSpace, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
