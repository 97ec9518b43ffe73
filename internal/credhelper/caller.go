package credhelper

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// userIn returns the user name that a command line such as `docker login -u NAME` gives.
func userIn(args []string) string {
	if !slices.Contains(args, "login") {
		return ""
	}
	for i, arg := range args {
		if name, ok := strings.CutPrefix(arg, "--username="); ok {
			return name
		}
		if (arg == "-u" || arg == "--username") && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// procArgs reads what macOS says of a process: the number of arguments, the program's path, zeros, the arguments.
func procArgs(raw []byte) []string {
	if len(raw) < 4 {
		return nil
	}
	n := int(binary.LittleEndian.Uint32(raw))
	_, rest, ok := bytes.Cut(raw[4:], []byte{0})
	if !ok || n > len(rest) {
		return nil
	}
	rest = bytes.TrimLeft(rest, "\x00")
	var args []string
	for ; n > 0 && len(rest) > 0; n-- {
		var arg []byte
		arg, rest, _ = bytes.Cut(rest, []byte{0})
		args = append(args, string(arg))
	}
	return args
}
