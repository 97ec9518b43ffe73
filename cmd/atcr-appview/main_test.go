package main

import (
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atcr-dev/atcr/internal/realtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"atcr-appview": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			addr, err := realtest.FreeAddr()
			if err != nil {
				return err
			}
			env.Setenv("ADDR", addr)
			example, err := filepath.Abs("../../config-appview.example.yaml")
			env.Setenv("EXAMPLE", example)
			return err
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"answers": answers},
	})
}

// has reads an answer and reports whether it holds a text so many times.
func has(resp *http.Response, text string, count int) bool {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return err == nil && strings.Count(string(b), text) == count
}

// answers waits until a URL gives 200, and if a text follows with a number, until it holds that so often.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(time.Minute)
	for {
		resp, err := http.Get(args[0])
		if err == nil {
			good := resp.StatusCode == http.StatusOK
			if good && len(args) == 3 {
				n, err := strconv.Atoi(args[2])
				good = err == nil && has(resp, args[1], n)
			}
			resp.Body.Close()
			if good {
				return
			}
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not answer 200: %v", args[0], err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
