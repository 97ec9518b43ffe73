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
