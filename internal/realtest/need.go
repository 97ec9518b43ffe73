package realtest

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// installLimit bounds one installation; the longest, the PDS's native module,
// takes some three minutes on two slow cores.
const installLimit = 20 * time.Minute

// Need makes sure the components are installed, by the rules of the package
// comment: it returns when they are there, else skips or fails t.
func Need(t testing.TB, components ...tools.Component) {
	t.Helper()
	mode := os.Getenv("ATCR_REAL")
	if mode == "off" {
		t.Skip("realtest: skipped: ATCR_REAL=off")
	}
	var missing []string
	for _, c := range components {
		if !tools.Installed(c) {
			missing = append(missing, string(c))
		}
	}
	if len(missing) == 0 {
		return
	}
	if mode != "require" {
		t.Skipf("realtest: skipped: %s missing: run make tools", strings.Join(missing, ", "))
	}
	ctx, cancel := context.WithTimeout(context.Background(), installLimit)
	defer cancel()
	if err := tools.Install(ctx, os.Stderr, components...); err != nil {
		t.Fatalf("realtest: %v", err)
	}
}

// Long skips t unless ATCR_LONG is set; the name says what would have run.
func Long(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("ATCR_LONG") == "" {
		t.Skipf("%s runs in make long", what)
	}
}
