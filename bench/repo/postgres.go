package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/tools"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb/postgres"
)

// outside is the testing.TB that realtest wants, for a program that is no test: Fatal ends the call of try.
type outside struct {
	testing.TB // nil: what isn't here isn't used
	ctx        context.Context
	undo       []func()
	errs       []error
}

type fatal struct{ error }

func (o *outside) Helper()                         {}
func (o *outside) Name() string                    { return "bench" }
func (o *outside) Failed() bool                    { return len(o.errs) > 0 }
func (o *outside) Context() context.Context        { return o.ctx }
func (o *outside) Cleanup(f func())                { o.undo = append(o.undo, f) }
func (o *outside) Log(args ...any)                 { fmt.Fprintln(os.Stderr, args...) }
func (o *outside) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (o *outside) Error(args ...any)               { o.errs = append(o.errs, errors.New(fmt.Sprint(args...))) }
func (o *outside) Errorf(format string, args ...any) {
	o.errs = append(o.errs, fmt.Errorf(format, args...))
}
func (o *outside) Fatal(args ...any)                 { panic(fatal{errors.New(fmt.Sprint(args...))}) }
func (o *outside) Fatalf(format string, args ...any) { panic(fatal{fmt.Errorf(format, args...)}) }
func (o *outside) Skip(args ...any)                  { o.Fatal(args...) }
func (o *outside) Skipf(format string, args ...any)  { o.Fatalf(format, args...) }

func (o *outside) try(f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(fatal)
			if !ok {
				panic(p)
			}
			err = e.error
		}
	}()
	f()
	return errors.Join(o.errs...)
}

// stop undoes what was started.
func (o *outside) stop() error {
	return o.try(func() {
		for _, f := range slices.Backward(o.undo) {
			f()
		}
	})
}

// startPostgres runs a server of its own until the bench ends and returns the addresses of two empty databases.
func (b *bench) startPostgres(ctx context.Context) (large, small string, err error) {
	if !tools.Installed(tools.PostgreSQL) {
		fmt.Fprintln(os.Stderr, "installing postgresql…")
		if err := tools.Install(ctx, os.Stderr, tools.PostgreSQL); err != nil {
			return "", "", fmt.Errorf("install postgresql: %w", err)
		}
	}
	o := &outside{ctx: ctx}
	b.OnEnd(o.stop)
	err = o.try(func() {
		server := realtest.NewPostgres(o)
		large, small = server.Database(o), server.Database(o)
	})
	return large, small, err
}

// onPostgres gives the same two repositories to PostgreSQL, once.
func (b *bench) onPostgres(ctx context.Context) (large, small *repo.Repo, err error) {
	if b.pg[0] != nil {
		return b.pg[0], b.pg[1], nil
	}
	addresses := [2]string{}
	if addresses[0], addresses[1], err = b.startPostgres(ctx); err != nil {
		return nil, nil, err
	}
	for i, n := range []int{b.large, few} {
		if b.pg[i], err = b.mirror(ctx, n, addresses[i]); err != nil {
			return nil, nil, err
		}
	}
	return b.pg[0], b.pg[1], nil
}

// mirror carries a repository from SQLite to PostgreSQL.
func (b *bench) mirror(ctx context.Context, n int, address string) (*repo.Repo, error) {
	from, err := b.fill(ctx, n)
	if err != nil {
		return nil, err
	}
	car := filepath.Join(b.Folder, "mirror.car")
	if _, err := writeCAR(ctx, from, car); err != nil {
		return nil, err
	}
	defer os.Remove(car)
	f, err := os.Open(car)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	db, err := postgres.Open(ctx, address)
	if err != nil {
		return nil, err
	}
	b.OnEnd(db.Close)
	s, err := sqlstore.New(ctx, db)
	if err != nil {
		return nil, err
	}
	b.OnEnd(s.Close)
	began := time.Now()
	if _, err := repo.MirrorCAR(ctx, s, repo.Source{Reader: f, DID: did, AnyKey: true}, nil); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "  %d records mirrored to PostgreSQL in %.1f s\n", n, time.Since(began).Seconds())
	key, err := fixedKey()
	if err != nil {
		return nil, err
	}
	r, err := repo.Open(ctx, s, repo.Options{DID: did, Key: key})
	if err == nil {
		b.OnEnd(r.Close)
	}
	return r, err
}

func measurePostgres(ctx context.Context, b *bench) error {
	large, small, err := b.onPostgres(ctx)
	if err != nil {
		return err
	}
	if err := b.commits(ctx, large, "PostgreSQL", 5); err != nil {
		return err
	}
	return b.reads(ctx, large, small, "PostgreSQL", 5000)
}
