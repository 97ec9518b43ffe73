package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// Folder is one that a service writes.
type Folder struct {
	Key  string // of the configuration
	Path string
}

// explain says of an error which folder is full or somebody else's, and what to do about it.
func explain(err error, folders []Folder) error {
	var op *net.OpError
	if err == nil || len(folders) == 0 || errors.As(err, &op) && op.Op == "listen" { // the system's word on a port names it
		return err
	}
	// Databases have an error of their own for a full disk.
	if errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), "no space left") || strings.Contains(err.Error(), "disk is full") {
		return fmt.Errorf("no space left in %s: free some, or name another folder: %w", list(folders), err)
	}
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for _, f := range folders {
		st, serr := os.Stat(f.Path)
		if serr != nil {
			continue
		}
		if uid, ok := owner(st); ok && uid != os.Geteuid() {
			return fmt.Errorf("%s (%s) belongs to user %s, and this runs as user %s: run it as the first, or give it the "+
				"folder (chown -R): %w",
				f.Path, f.Key, named(uid), named(os.Geteuid()), err)
		}
	}
	return fmt.Errorf("user %s may not write to %s: %w", named(os.Geteuid()), list(folders), err)
}

func list(folders []Folder) string {
	var out []string
	for _, f := range folders {
		out = append(out, fmt.Sprintf("%s (%s)", f.Path, f.Key))
	}
	return strings.Join(out, " or ")
}

func named(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return fmt.Sprintf("%s (%d)", u.Username, uid)
	}
	return strconv.Itoa(uid)
}
