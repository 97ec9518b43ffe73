package crashpoint_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/atcr-dev/atcr/internal/crashpoint"
)

func TestReach(t *testing.T) {
	ctx := context.Background()
	if err := crashpoint.Reach(ctx, "here"); err != nil {
		t.Errorf("without a hook: %v", err)
	}
	if got := crashpoint.With(ctx, nil); got != ctx {
		t.Error("a nil hook changes the context")
	}
	crash := errors.New("crash")
	var reached []string
	ctx = crashpoint.With(ctx, func(name string) error {
		reached = append(reached, name)
		if name == "there" {
			return crash
		}
		return nil
	})
	if err := crashpoint.Reach(ctx, "here"); err != nil {
		t.Error(err)
	}
	kept := crashpoint.From(ctx)
	err := kept.Reach("there")
	if !errors.Is(err, crash) || !errors.Is(err, crashpoint.ErrStopped) {
		t.Errorf("%v", err)
	}
	if !slices.Equal(reached, []string{"here", "there"}) {
		t.Errorf("reached %q", reached)
	}
}

// Tests find a point by its name alone, in processes where several packages have points.
func TestNamesDiffer(t *testing.T) {
	all := slices.Concat(crashpoint.OfPDS(), crashpoint.OfHold(), crashpoint.OfBackup(), crashpoint.OfRestore(), crashpoint.OfOAuth())
	slices.Sort(all)
	if n := len(all); len(slices.Compact(all)) != n {
		t.Errorf("a name stands twice: %q", all)
	}
}
