package main

import (
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"atcr-hold": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			env.Setenv("ADDR", ln.Addr().String())
			example, err := filepath.Abs("../../config-hold.example.yaml")
			env.Setenv("EXAMPLE", example)
			return errors.Join(err, ln.Close())
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"answers": answers},
	})
}

// answers waits until a URL gives 200.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
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
