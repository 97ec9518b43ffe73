package realtest

import "syscall"

// dieWithParent: a group of its own, and killed when the test process dies
// without having stopped it.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
