//go:build unix

package rounds

import "golang.org/x/sys/unix"

// SyncDisk writes out what earlier work left in the page cache.
func SyncDisk() { unix.Sync() }
