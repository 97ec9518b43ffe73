//go:build linux || darwin || freebsd

package room

import "syscall"

func space(path string) (free, total int64, ok bool) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil || st.Blocks == 0 {
		return 0, 0, false
	}
	bsize := int64(st.Bsize) //nolint:unconvert // its type differs between platforms
	return int64(st.Bavail) * bsize, int64(st.Blocks) * bsize, true
}

// Same reports whether two folders are there and lie on one disk.
func Same(a, b string) bool {
	var x, y syscall.Stat_t
	return syscall.Stat(a, &x) == nil && syscall.Stat(b, &y) == nil && x.Dev == y.Dev
}
