package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// TestMain lets the test binary be the bare server, as the program itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serveBare {
		if err := runBare(os.Args[2:]); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestQuick prevents a bench that no longer runs: every row once, with little work.
func TestQuick(t *testing.T) {
	realtest.Long(t, "the bench, quickly")
	realtest.Need(t, tools.Distribution)
	var out strings.Builder
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := run(ctx, config{rounds: 1, quick: true, tags: 1000, dir: t.TempDir()}, &out); err != nil {
		t.Fatal(err)
	}
	for _, r := range allRows() {
		if !strings.Contains(out.String(), r.what) {
			t.Errorf("the table lacks %q:\n%s", r.what, out.String())
		}
	}
}

func TestUnknownRow(t *testing.T) {
	err := run(t.Context(), config{only: []string{"nonsense"}}, nil)
	if err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("error is %v, want one that names the row", err)
	}
}
