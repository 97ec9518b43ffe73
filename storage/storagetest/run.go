package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/storage"
)

// Config says how to get at the driver.
type Config struct {
	// Open returns a store on a new, empty place. It is required: Run and Check panic without it.
	Open func() (storage.Store, error)
	// Close ends a store that Open or Crash gave. Nil: its Close method is called if it has one.
	Close func(storage.Store) error
	// Crash leaves the store as a killed process would, without telling it, and opens the same place again.
	// Nil: the store keeps nothing past its process.
	Crash func(storage.Store) (storage.Store, error)
	// Small gives a store that takes about limit bytes and then reports ErrNoSpace until room is made by deleting.
	// Nil: not tested.
	Small func(limit int64) (storage.Store, error)
	// Leftovers names what lies in the store's place beside what an empty store has. Nil: not tested.
	Leftovers func(storage.Store) ([]string, error)
	// Only names the cases to run, as Run names its subtests. Nil: all.
	Only []string
	// Seed of all that is random. 0: by the clock; it is printed with every failure.
	Seed uint64
}

// Run checks the driver, a subtest for each case.
func Run(t *testing.T, cfg Config) {
	t.Helper()
	cfg = cfg.withDefaults()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if why := c.missing(cfg); why != "" {
				t.Skip(why)
			}
			for _, err := range runCase(t.Context(), cfg, c) {
				t.Error(err)
			}
			if t.Failed() {
				t.Logf("seed %d", cfg.Seed)
			}
		})
	}
}

// Check checks the driver and returns every misbehaviour in one error, nil when there is none.
func Check(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	var all []error
	for _, c := range cases {
		if c.missing(cfg) != "" {
			continue
		}
		for _, err := range runCase(ctx, cfg, c) {
			all = append(all, fmt.Errorf("%s (seed %d): %w", c.name, cfg.Seed, err))
		}
	}
	return errors.Join(all...)
}

func (cfg Config) withDefaults() Config {
	if cfg.Open == nil {
		panic("storagetest: Config.Open is nil: it returns the store that is checked, on a new and empty place")
	}
	if cfg.Seed == 0 {
		cfg.Seed = uint64(time.Now().UnixNano())
	}
	if cfg.Close == nil {
		cfg.Close = func(s storage.Store) error {
			if c, ok := s.(io.Closer); ok {
				return c.Close()
			}
			return nil
		}
	}
	return cfg
}

type testCase struct {
	name  string
	run   func(*env)
	needs string // "crash" or "small"
}

func (c testCase) missing(cfg Config) string {
	switch {
	case cfg.Only != nil && !slices.Contains(cfg.Only, c.name):
		return "not among Config.Only"
	case c.needs == "crash" && cfg.Crash == nil:
		return "Config.Crash is nil: this store keeps nothing past its process"
	case c.needs == "small" && cfg.Small == nil:
		return "Config.Small is nil: no small store to fill up"
	}
	return ""
}

// env is what a case works with. Its methods that find something wrong write it down.
type env struct {
	ctx  context.Context
	cfg  Config
	s    storage.Store
	rand *rand.Rand

	mu   sync.Mutex
	errs []error
}

// errorf writes down a misbehaviour.
func (e *env) errorf(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.errs = append(e.errs, fmt.Errorf(format, args...))
}

// fatalf is errorf and ends the case. Only for the goroutine of the case.
func (e *env) fatalf(format string, args ...any) {
	e.errorf(format, args...)
	runtime.Goexit()
}

// must ends the case on an error.
func (e *env) must(what string, err error) {
	if err != nil {
		e.fatalf("%s: %w", what, err)
	}
}

// want writes down that a call didn't fail in the right way.
func (e *env) want(what string, err, target error) {
	if !errors.Is(err, target) {
		e.errorf("%s: error is %v, want %v", what, err, target)
	}
}

func runCase(ctx context.Context, cfg Config, c testCase) []error {
	open := cfg.Open
	if c.needs == "small" {
		open = func() (storage.Store, error) { return cfg.Small(smallLimit) }
	}
	s, err := open()
	if err != nil {
		return []error{fmt.Errorf("open: %w", err)}
	}
	if s == nil {
		return []error{errors.New("open returned neither a store nor an error")}
	}
	e := &env{ctx: ctx, cfg: cfg, s: s, rand: rand.New(rand.NewPCG(cfg.Seed, 1))}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				e.errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		c.run(e)
		e.sweep()
	}()
	<-done
	if err := cfg.Close(e.s); err != nil {
		e.errorf("close: %w", err)
	}
	return e.errs
}

// sweep deletes everything and looks whether something stays.
func (e *env) sweep() {
	for info, err := range e.s.Uploads(e.ctx, "") {
		e.must("list uploads in the end", err)
		up, err := e.s.Resume(e.ctx, info.ID)
		e.must("resume an upload in the end", err)
		e.must("cancel an upload in the end", up.Cancel(e.ctx))
	}
	for info, err := range e.s.Walk(e.ctx, "") {
		e.must("walk in the end", err)
		e.must("delete in the end", e.s.Delete(e.ctx, info.Digest))
	}
	for info := range e.s.Uploads(e.ctx, "") {
		e.errorf("upload %s of %d bytes stays after Cancel", info.ID, info.Size)
	}
	for info := range e.s.Walk(e.ctx, "") {
		e.errorf("blob %s stays after Delete", info.Digest)
	}
	if e.cfg.Leftovers == nil {
		return
	}
	left, err := e.cfg.Leftovers(e.s)
	if err != nil {
		e.errorf("look for leftovers: %w", err)
	}
	for _, l := range left {
		e.errorf("left behind: %s", l)
	}
}
