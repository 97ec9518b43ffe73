package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// TestMain lets the test binary be a child, as the program itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childVerb {
		if err := child(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestQuick prevents a bench that no longer runs: every row once, with little work.
func TestQuick(t *testing.T) {
	realtest.Long(t, "the bench of repositories, quickly")
	realtest.Need(t, tools.ATProto, tools.PostgreSQL)
	var out strings.Builder
	c := config{options: rounds.Options{Rounds: 1, Quick: true, Dir: t.TempDir()}, records: 100_000, large: 1_000_000}
	if err := run(t.Context(), c, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"import 1000 records", "atcr-hold repo import of its CAR of 1000 records", "| atcr-hold repo import of 1000 records | 120 MB |",
		"export 1000 records", "any order", "streaming order", "one more record into 10000, durable, signed (SQLite)",
		"one more record into 10000, durable, signed (PostgreSQL)", "open 10000",
		"get a record of 10000", "a page of 100 records", "plain TCP", "one that never reads", "export of 10000 records",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

// TestAgainst compares the atcr-hold that is built now with itself, quickly.
func TestAgainst(t *testing.T) {
	realtest.Long(t, "the bench of repositories beside a program from before, quickly")
	dir := t.TempDir()
	c := config{options: rounds.Options{Rounds: 1, Quick: true, Dir: dir, Against: filepath.Join(dir, "atcr-hold")}, records: 100_000}
	if err := rounds.Build(t.Context(), c.options.Against, "cmd/atcr-hold"); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run(t.Context(), c, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"repo import into a new hold, streaming order, 1000 records | to before | at least 0.85x",
		"repo import into a hold that was started, no order, 1000 records | to before | at least 0.85x",
		"repo export, 1000 records | to before | at least 0.95x", "repo verify, no order, 1000 records | to before | at least 0.95x",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestUnknownRows(t *testing.T) {
	err := run(t.Context(), config{options: rounds.Options{Only: []string{"nonsense"}}}, nil)
	if err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("error is %v, want one that names the rows", err)
	}
}
