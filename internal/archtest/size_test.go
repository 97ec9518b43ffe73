package archtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// What programs made of this module weigh, in bytes, stripped and without cgo. The registry in five lines was 15.2 MB while SQLite
// brought pgx.
var sizes = map[string]int64{
	"./examples/own-backend":    8_000_000,
	"./examples/embed-registry": 15_200_000,
	"./cmd/atcr-hold":           30_000_000,
}

// helperSize is what docker-credential-atcr may weigh, on any platform: people download it.
const helperSize = 10_000_000

// TestStrippedSizes builds them; it is for the long campaign, since it links what nobody runs.
func TestStrippedSizes(t *testing.T) {
	if os.Getenv("ATCR_LONG") == "" {
		t.Skip("for make long (ATCR_LONG)")
	}
	for pkg, limit := range sizes {
		weigh(t, pkg, limit)
	}
}

// TestHelperSize builds docker-credential-atcr for this platform; make helper does it for all.
func TestHelperSize(t *testing.T) { weigh(t, "./cmd/docker-credential-atcr", helperSize) }

// weigh builds a program as it ships.
func weigh(t *testing.T, pkg string, limit int64) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", pkg, err, text)
	}
	fi, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%-28s %9d bytes of %9d", pkg, fi.Size(), limit)
	if fi.Size() > limit {
		t.Errorf("%s has %d bytes, more than %d", pkg, fi.Size(), limit)
	}
}
