package main

import (
	"net/http"
	"path/filepath"
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

// answers waits until a URL gives 200.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(time.Minute)
	for {
		resp, err := http.Get(args[0])
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not answer 200: %v", args[0], err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
