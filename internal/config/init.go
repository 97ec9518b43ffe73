package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Init prints a configuration's commented file to stdout, or writes it to a new file that its owner alone can read, since secrets
// may be put into it. A file that exists is left alone, with an error. An empty format is the one by which the file will be read.
func Init(file string, format Format, stdout io.Writer, c any) error {
	byName := FormatOf(file)
	switch {
	case format == "":
		format = byName
	case file != "" && format != byName:
		return fmt.Errorf("%s would be read as %s, by its name: name it with the ending .%s", file, strings.ToUpper(string(byName)), format)
	}
	if file == "" {
		return Write(stdout, format, c)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already: name another file, or remove it first", file)
	}
	if err != nil {
		return err
	}
	return errors.Join(Write(f, format, c), f.Close())
}
