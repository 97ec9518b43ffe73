package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
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
	if err := run(ctx, config{Options: rounds.Options{Rounds: 1, Quick: true, Dir: t.TempDir()}, tags: 1000}, &out); err != nil {
		t.Fatal(err)
	}
	for _, r := range allRows() {
		if !strings.Contains(out.String(), r.what) {
			t.Errorf("the table lacks %q:\n%s", r.what, out.String())
		}
	}
}

// TestAgainst compares what is built now with itself, quickly.
func TestAgainst(t *testing.T) {
	realtest.Long(t, "the bench beside a program from before, quickly")
	dir := t.TempDir()
	c := config{Options: rounds.Options{Rounds: 1, Quick: true, Dir: dir}, tags: 1000, sandbox: filepath.Join(dir, "sandbox")}
	c.Against = filepath.Join(dir, "embed-registry")
	for _, program := range []string{c.Against, c.sandbox} {
		if err := rounds.Build(t.Context(), program, "examples/"+filepath.Base(program)); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if err := run(t.Context(), c, &out); err != nil {
		t.Fatal(err)
	}
	for _, r := range allRows() {
		want := "| " + r.what + " | to " + r.of() + " before | at least 0."
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), dist) {
		t.Error("distribution was measured, too")
	}
}

func TestUnknownRow(t *testing.T) {
	err := run(t.Context(), config{Options: rounds.Options{Only: []string{"nonsense"}}}, nil)
	if err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("error is %v, want one that names the row", err)
	}
}
