//go:build unix

package cli

import (
	"io/fs"
	"syscall"
)

// owner of a file.
func owner(st fs.FileInfo) (uid int, ok bool) {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(s.Uid), true
}
