package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// programs is the folder into which the tests build what they start.
var programs string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "e2e")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		programs = dir
		return realtest.Main(m)
	}())
}
