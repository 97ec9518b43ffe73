package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// One error names all ports that are taken, and how to get free ones.
func TestTakenPorts(t *testing.T) {
	t.Parallel()
	var addrs []string
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		addrs = append(addrs, ln.Addr().String())
	}
	dir := t.TempDir()
	args := []string{"--registry", addrs[0], "--hold", addrs[1], "--pds", addrs[2], "--data", dir}
	says := func(want ...string) {
		t.Helper()
		err := run(t.Context(), args, io.Discard, io.Discard)
		if err == nil {
			t.Fatal("it started on ports that are taken")
		}
		for _, w := range append(want, "--registry: listen tcp "+addrs[0], "--hold: listen tcp "+addrs[1], "--pds: listen tcp "+addrs[2],
			"port 0 picks a free one: --registry 127.0.0.1:0 --hold 127.0.0.1:0 --pds 127.0.0.1:0") {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("the error does not say %q: %v", w, err)
			}
		}
	}
	says("or give other ports")

	// A folder that was used keeps its ports, so another one is needed; that of the directory is among them.
	if err := keep(dir, addresses{Registry: addrs[0], Hold: addrs[1], PDS: addrs[2], PLC: addrs[0]}); err != nil {
		t.Fatal(err)
	}
	args = []string{"--registry", "127.0.0.1:0", "--hold", "127.0.0.1:0", "--pds", "127.0.0.1:0", "--data", dir}
	says("another folder (--data)", "the DID directory, which has no flag: listen tcp "+addrs[0])
	if _, err := os.Stat(filepath.Join(dir, "network")); !os.IsNotExist(err) {
		t.Errorf("something was started all the same: %v", err)
	}
}
