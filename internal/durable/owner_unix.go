//go:build unix

package durable

import (
	"fmt"
	"os"
	"syscall"
)

// SameOwner gives path the owner and group of the file like, and does nothing when it has them. It takes root to give a file away. A
// symbolic link is not followed: who owns the folder could have root give him any file by one.
func SameOwner(path, like string) error {
	want, err := os.Stat(like)
	if err != nil {
		return err
	}
	now, err := os.Lstat(path)
	if err != nil {
		return err
	}
	w, ok := want.Sys().(*syscall.Stat_t)
	n, too := now.Sys().(*syscall.Stat_t)
	if !ok || !too || w.Uid == n.Uid && w.Gid == n.Gid {
		return nil
	}
	if err := os.Lchown(path, int(w.Uid), int(w.Gid)); err != nil {
		return fmt.Errorf("give %s the owner of %s: %w", path, like, err)
	}
	return nil
}
