package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Init prints a configuration's commented file to stdout, or writes it to a new file that its owner alone can read, since secrets
// may be put into it. A file that exists is left alone, with an error.
func Init(file string, stdout io.Writer, c any) error {
	if file == "" {
		return Write(stdout, c)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already: name another file, or remove it first", file)
	}
	if err != nil {
		return err
	}
	return errors.Join(Write(f, c), f.Close())
}
