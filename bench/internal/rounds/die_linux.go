package rounds

import (
	"os/exec"
	"syscall"
)

// DieWithParent leaves no process behind when the bench is killed.
func DieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}
