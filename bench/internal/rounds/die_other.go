//go:build !linux

package rounds

import "os/exec"

func DieWithParent(*exec.Cmd) {}
