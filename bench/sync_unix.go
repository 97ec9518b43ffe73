//go:build unix

package main

import "golang.org/x/sys/unix"

// syncDisk writes out what earlier work left in the page cache.
func syncDisk() { unix.Sync() }
