package rounds

import (
	"os"
	"os/exec"
	"syscall"
)

// DieWithParent leaves no process behind when the bench is killed.
func DieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}

// mostResident is in KiB.
func mostResident(p *os.ProcessState) int64 {
	u, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return -1
	}
	return u.Maxrss
}
