package realtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// An S3Server is versitygw over a folder.
type S3Server struct {
	Endpoint             string // http://127.0.0.1:PORT
	AccessKey, SecretKey string
	Bucket               string // empty at first
	Dir                  string // of the bucket's objects, each a file by its key

	Process *Process
}

// S3 starts an S3 server with one bucket and stops it when the test ends.
func S3(t testing.TB) *S3Server {
	t.Helper()
	Need(t, tools.VersityGW)
	addr, dir := fmt.Sprintf("127.0.0.1:%d", FreePort(t)), t.TempDir()
	s := &S3Server{Endpoint: "http://" + addr, AccessKey: "access", SecretKey: "secret-secret",
		Bucket: "bucket", Dir: filepath.Join(dir, "bucket")}
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.Process = Start(t, Command{
		Name: "versitygw", Path: tools.Path(tools.VersityGW), Args: []string{"--port", addr, "posix", dir},
		Env: []string{"ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey},
	})
	if err := s.Process.WaitListening(addr, startLimit); err != nil {
		t.Fatalf("realtest: %v", err)
	}
	return s
}
