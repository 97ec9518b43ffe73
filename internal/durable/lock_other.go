//go:build (!unix && !windows) || solaris || illumos || aix

package durable

import (
	"errors"
	"os"
)

func tryLock(*os.File) (bool, error) { return false, errors.ErrUnsupported }
