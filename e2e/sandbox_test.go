package e2e

import (
	"net"
	"os"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// The sandbox, stopped and started on the same folder, is the same network.
func TestSandboxRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, p := sandbox(t, dir)
	img := realtest.Image(t, realtest.ImageOptions{Layers: 2, Seed: 1200})
	must(realtest.NewCrane(t, s.Login).Push(img, s.ref("app", ":v1")))(t)
	if err := p.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if err := p.Stop(); err != nil {
		t.Errorf("SIGINT: %v", err)
	}

	again, p := sandbox(t, dir)
	if *again != *s {
		t.Errorf("after a restart %+v, before %+v", *again, *s)
	}
	crane := realtest.NewCrane(t, again.Login)
	if got := must(crane.Pull(again.ref("app", ":v1")))(t); got != img.Digest {
		t.Errorf("pulled %s, want %s", got, img.Digest)
	}
	must(crane.Push(img, again.ref("app", ":v2")))(t)
	eventually(t, func() error { return again.holdKnows("app", img.Digest, img.Blobs) })
	if err := p.Stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}

	l, err := net.Listen("tcp", s.Registry)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	failing := realtest.Start(t, realtest.Command{
		Path: realtest.Build(t, programs, "./examples/sandbox"), Args: []string{"--registry", "127.0.0.1:0", "--hold", "127.0.0.1:0",
			"--pds", "127.0.0.1:0", "--data", dir},
	})
	<-failing.Done()
	if !strings.Contains(failing.Log(), s.Registry) {
		t.Errorf("the port is taken and the error does not name it: %s", failing.Log())
	}
}

// Two sandboxes on one folder: the second refuses and says who has it.
func TestSandboxOnAFolderInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, first := sandbox(t, dir)
	second := realtest.Start(t, realtest.Command{
		Path: realtest.Build(t, programs, "./examples/sandbox"), Args: []string{"--registry", "127.0.0.1:0", "--hold", "127.0.0.1:0",
			"--pds", "127.0.0.1:0", "--data", dir},
	})
	<-second.Done()
	if err := second.Stop(); err == nil {
		t.Error("the second sandbox stopped without an error")
	}
	t.Logf("pid %d has it; the second says: %s", first.Pid(), second.Log())
}
