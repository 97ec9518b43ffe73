package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// oracle is what internal/realtest/tools/stack/repo-oracle.mjs answers; each verb fills its own fields.
type oracle struct {
	Key     string
	Records int64
	Data    string
	Rev     string

	Creates, Updates, Deletes int
	Verified, Refused         int
	Checked                   int
	Wrong                     []string
}

// askOracle runs @atproto/repo over files and standard input.
func askOracle(t *testing.T, stdin io.Reader, args ...string) (out oracle) {
	t.Helper()
	cmd, err := tools.RepoOracleCommand()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), cmd[0], append(cmd[1:], args...)...)
	var stderr bytes.Buffer
	c.Stdin, c.Stderr = stdin, &stderr
	raw, err := c.Output()
	if err != nil {
		t.Fatalf("@atproto/repo %q: %v\n%s", args, err, stderr.Bytes())
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	t.Logf("@atproto/repo %s: %s", args[0], raw)
	return out
}

// manyRecords is how many the interoperation tests use: what other implementations do in seconds, or in minutes.
func manyRecords() int {
	if os.Getenv("ATCR_LONG") != "" {
		return 100_000
	}
	return 8_000
}
