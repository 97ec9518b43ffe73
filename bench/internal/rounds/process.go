package rounds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// Build compiles one of our programs as it ships: pkg is its folder in the module.
func Build(ctx context.Context, to, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", to, "github.com/atcr-dev/atcr/"+pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// JSON runs a command that prints one line of JSON.
func JSON(ctx context.Context, into any, command ...string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	DieWithParent(cmd)
	var said bytes.Buffer
	cmd.Stderr = &said
	raw, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%q: %w\n%s", command, err, said.Bytes())
	}
	return json.Unmarshal(raw, into)
}

// Ended is a command that was run to its end.
type Ended struct {
	Out []byte
	MS  float64 // from before its start
	KiB int64   // the most that was resident, as wait4 tells; 0 where it does not
}

// Command runs a command to its end with more environment. What a process takes at most is told of whoever started it, too, until
// it runs the other program: call this in a process that is small.
func Command(ctx context.Context, environ []string, command ...string) (Ended, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	DieWithParent(cmd)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.Env = append(os.Environ(), environ...)
	began := time.Now()
	err := cmd.Run()
	e := Ended{Out: out.Bytes(), MS: float64(time.Since(began).Microseconds()) / 1000}
	if err != nil {
		return e, fmt.Errorf("%q: %w\n%s", command, err, said.Bytes())
	}
	if e.KiB = mostResident(cmd.ProcessState); e.KiB < 0 {
		return e, errors.New("wait4 tells no memory")
	}
	return e, nil
}
