package credhelper

import (
	"os"

	"golang.org/x/sys/unix"
)

// callersCommand returns the arguments of the program that started this one.
func callersCommand() []string {
	raw, err := unix.SysctlRaw("kern.procargs2", os.Getppid())
	if err != nil {
		return nil
	}
	return procArgs(raw)
}
