package main

import (
	"os/exec"
	"syscall"
)

// dieWithParent leaves no server behind when the bench is killed.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}
