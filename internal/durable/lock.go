package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// LockName is the file in a folder that [LockDir] locks. It stays there between runs.
const LockName = ".lock"

// ErrLocked: another process, or another call in this one, has the folder. The error is a [*LockedError].
var ErrLocked = errors.New("folder is in use")

// LockedError says who holds a folder. It is [ErrLocked].
type LockedError struct {
	Dir string
	PID int // 0 when the holder has not written it down yet
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = "process " + strconv.Itoa(e.PID)
	}
	return fmt.Sprintf("%s is in use by %s; stop it or choose another folder", e.Dir, who)
}

// Is makes errors.Is(err, ErrLocked) hold.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// Lock is a held folder.
type Lock struct{ f *os.File }

// LockDir takes the folder for this process and returns at once. The operating system lets go of it when the process
// ends in whatever way, so nothing needs to be cleaned up by hand. Errors: ErrLocked with the holder's pid.
//
// It keeps well-meaning processes on one machine apart; over NFS it depends on the server.
func LockDir(dir string) (*Lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, LockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	taken, err := tryLock(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock folder %s: %w", dir, err)
	}
	if !taken {
		defer f.Close()
		return nil, &LockedError{Dir: dir, PID: readPID(f)}
	}
	if err := writePID(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock folder %s: %w", dir, err)
	}
	return &Lock{f: f}, nil
}

// Close lets go of the folder. The lock file stays: removing it would let two processes lock two files of one name.
func (l *Lock) Close() error {
	if err := l.f.Truncate(0); err != nil {
		l.f.Close()
		return err
	}
	return l.f.Close()
}

func readPID(f *os.File) int {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

func writePID(f *os.File) error {
	b := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(b)))
}
