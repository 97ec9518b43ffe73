// Package targettest checks any backup.Target.
package targettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/hold/backup"
)

// Run checks what package backup relies on, on a target that is empty.
func Run(t *testing.T, target backup.Target) {
	t.Run("files", func(t *testing.T) { files(t, target) })
	t.Run("refused puts", func(t *testing.T) { refused(t, target) })
	t.Run("lists", func(t *testing.T) { lists(t, target) })
}

func put(t *testing.T, target backup.Target, name string, data []byte) {
	t.Helper()
	if err := target.Put(t.Context(), name, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, target backup.Target, name string) ([]byte, error) {
	t.Helper()
	r, err := target.Open(t.Context(), name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func files(t *testing.T, target backup.Target) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 2<<20) // more than one part of any client's
	for name, data := range map[string][]byte{"sets/a/empty": {}, "sets/a/small": []byte("small"), "sets/a/big": big} {
		put(t, target, name, data)
		if got, err := get(t, target, name); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	put(t, target, "sets/a/small", []byte("other"))
	if got, err := get(t, target, "sets/a/small"); err != nil || string(got) != "other" {
		t.Errorf("written over: %q, %v", got, err)
	}
	for range 2 {
		if err := target.Delete(t.Context(), "sets/a/small"); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if _, err := get(t, target, "sets/a/small"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("deleted: %v", err)
	}
	if _, err := get(t, target, "sets/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("never there: %v", err)
	}
	if target.String() == "" {
		t.Error("it has no name")
	}
}

var errTorn = errors.New("torn")

func refused(t *testing.T, target backup.Target) {
	put(t, target, "sets/b/old", []byte("old"))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for what, try := range map[string]func(name string) error{
		"a failing reader": func(name string) error {
			return target.Put(t.Context(), name, io.MultiReader(strings.NewReader("some"), failing{}), 10)
		},
		"too few bytes":    func(name string) error { return target.Put(t.Context(), name, strings.NewReader("some"), 10) },
		"an ended context": func(name string) error { return target.Put(ended, name, strings.NewReader("some"), 4) },
	} {
		for _, name := range []string{"sets/b/new", "sets/b/old"} {
			if err := try(name); err == nil {
				t.Errorf("%s, %s: taken", what, name)
			}
		}
	}
	if err := target.Put(t.Context(), "sets/b/new", io.MultiReader(strings.NewReader("some"), failing{}), 10); !errors.Is(err, errTorn) {
		t.Errorf("the reader's error is lost: %v", err)
	}
	if err := target.Clean(t.Context()); err != nil {
		t.Errorf("clean: %v", err)
	}
	if got, err := get(t, target, "sets/b/old"); err != nil || string(got) != "old" {
		t.Errorf("the old file: %q, %v", got, err)
	}
	if names := list(t, target, "sets/b/"); !slices.Equal(names, []string{"sets/b/old 3"}) {
		t.Errorf("a refused put left %v", names)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errTorn }

func list(t *testing.T, target backup.Target, folder string) (names []string) {
	t.Helper()
	for e, err := range target.List(t.Context(), folder) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprint(e.Name, " ", e.Size))
	}
	return names
}

func lists(t *testing.T, target backup.Target) {
	var want []string
	for i := range 12 {
		name := fmt.Sprintf("layers/c/%02d/%02d", i%3, i)
		put(t, target, name, make([]byte, i))
		want = append(want, fmt.Sprint(name, " ", i))
	}
	slices.Sort(want)
	if got := list(t, target, "layers/"); !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	if got := list(t, target, "nothing/"); len(got) != 0 {
		t.Errorf("nothing: %v", got)
	}
	n := 0
	for range target.List(t.Context(), "layers/") {
		if n++; n == 2 {
			break
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var err error
	for _, err = range target.List(ended, "layers/") {
	}
	if err == nil {
		t.Error("a list goes on after its context has ended")
	}
}
