// Package crashpoint names the points at which tests end a process, or stop its work as if it had ended. A point's name says what
// is durable when it is reached; the comments at the names say what recovery does there.
//
// A test puts a [Hook] into the context that it gives to a constructor. The constructor takes it out once ([From]) and keeps it, since
// the contexts of requests do not come from the test; functions that do their work at once call [Reach] with the context they were
// given. Without a hook reaching a point does nothing.
//
//	ctx := crashpoint.With(ctx, func(name string) error {
//		if name == crashpoint.HoldTold {
//			syscall.Kill(os.Getpid(), syscall.SIGKILL)
//		}
//		return nil
//	})
//	backend, err := pds.New(ctx, options)
//
// A test asserts that its point was reached: a hook that never fires proves nothing.
package crashpoint

import (
	"context"
	"errors"
	"fmt"
)

// ErrStopped is the kind of error that [Hook.Reach] returns when the hook returned one.
var ErrStopped = errors.New("stopped at a crash point")

// A Hook is called each time a point is reached, from any goroutine. It ends the process, or returns an error: the work is given up there
// and nothing is cleaned up after it, where the code at that point can do so; code that can't ignores the error. Nil does nothing.
type Hook func(name string) error

// Reach calls the hook with the name of a point. Its error is of kind [ErrStopped] and wraps the hook's.
func (h Hook) Reach(name string) error {
	if h == nil {
		return nil
	}
	if err := h(name); err != nil {
		return fmt.Errorf("%w %s: %w", ErrStopped, name, err)
	}
	return nil
}

type key struct{}

// With returns a context that carries the hook. A nil hook changes nothing.
func With(ctx context.Context, h Hook) context.Context {
	if h == nil {
		return ctx
	}
	return context.WithValue(ctx, key{}, h)
}

// From returns the hook that the context carries, nil if none.
func From(ctx context.Context) Hook {
	h, _ := ctx.Value(key{}).(Hook)
	return h
}

// Reach calls the hook that the context carries.
func Reach(ctx context.Context, name string) error { return From(ctx).Reach(name) }
