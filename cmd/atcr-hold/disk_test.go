package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// TestDiskFull runs the verbs that write files on a disk that is full.
func TestDiskFull(t *testing.T) {
	disk := realtest.NewSmallDisk(t, 1<<20)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/disk",
		Setup: func(env *testscript.Env) error {
			env.Setenv("ADDR", "127.0.0.1:1") // nothing is served
			env.Setenv("DISK", disk.Dir)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fill": func(*testscript.TestScript, bool, []string) { disk.Fill(0) },
			"free": func(*testscript.TestScript, bool, []string) { disk.Free() },
		},
	})
}
