//go:build !windows

package durable

import (
	"fmt"
	"os"
)

// SyncDir fsyncs a folder: names made, renamed or removed in it before the call survive a power cut after it. Windows has no such
// call, and nothing is done there.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("fsync folder %s: %w", dir, err)
	}
	return nil
}
