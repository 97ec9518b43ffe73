package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/opencontainers/go-digest"
)

// The test program is the command itself when this is set: it is killed and restarted below.
const asCommand = "EMBED_REGISTRY_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// command is a running embed-registry.
type command struct {
	t    *testing.T
	cmd  *exec.Cmd
	host string
	out  *bytes.Buffer
}

var listens = regexp.MustCompile(`http://(\S+),`)

func start(t *testing.T, data string) *command {
	t.Helper()
	c := &command{t: t, cmd: exec.Command(os.Args[0], "--addr", "127.0.0.1:0", "--data", data), out: &bytes.Buffer{}}
	c.cmd.Env = append(os.Environ(), asCommand+"=1")
	c.cmd.Stderr = c.out
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	m := listens.FindStringSubmatch(line)
	if m == nil {
		c.kill()
		t.Fatalf("first line %q, %v: %s", line, err, c.out)
	}
	c.host = m[1]
	return c
}

// kill is kill -9. A second one does nothing.
func (c *command) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func TestPushPullAndStop(t *testing.T) {
	data := t.TempDir() + "/data"
	c := start(t, data)
	image, err := random.Image(1<<20, 4)
	if err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(image, c.host+"/team/app:v1"); err != nil {
		t.Fatal(err)
	}
	pulled, err := crane.Pull(c.host + "/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	readLayers(t, pulled)
	if res, err := http.Get("http://" + c.host + "/"); err != nil || res.StatusCode != 200 {
		t.Fatalf("the other route: %v", err)
	}

	// A second one on the folder is told whose it is.
	second := exec.Command(os.Args[0], "--addr", "127.0.0.1:0", "--data", data)
	second.Env = append(os.Environ(), asCommand+"=1")
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprint(c.cmd.Process.Pid)) {
		t.Errorf("second process: %v: %s", err, out)
	}

	// SIGINT lets a request end that has begun.
	conn, err := net.Dial("tcp", c.host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	layer := "a layer under way"
	d := digest.FromString(layer)
	fmt.Fprintf(conn, "POST /v2/app/blobs/uploads/?digest=%s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n",
		d, len(layer))
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); !strings.Contains(line, "100") {
		t.Fatalf("%q, %v", line, err)
	}
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	waitRefused(t, c.host)
	fmt.Fprint(conn, layer)
	if _, err := answers.ReadString('\n'); err != nil { // the empty line after 100
		t.Fatal(err)
	}
	res, err := http.ReadResponse(answers, nil)
	if err != nil || res.StatusCode != 201 {
		t.Fatalf("%v, %v", res, err)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v: %s", err, c.out)
	}

	// All of it is there again.
	c = start(t, data)
	if got, err := crane.Digest(c.host + "/team/app:v1"); err != nil || got != must(image.Digest()).String() {
		t.Errorf("%s, %v", got, err)
	}
	if res, err := http.Get("http://" + c.host + "/v2/app/blobs/" + d.String()); err != nil || res.StatusCode != 200 {
		t.Errorf("the layer that was under way: %v, %v", res, err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// waitRefused waits until no new connection is taken.
func waitRefused(t *testing.T, host string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("it still listens after SIGINT")
		}
		time.Sleep(time.Millisecond)
	}
}

// Killed at random points of pushes: what was acknowledged is there and verifies, an unfinished upload goes on from its Range,
// and nothing needs repair by hand.
func TestKilled(t *testing.T) {
	rounds := 3
	if os.Getenv("ATCR_LONG") != "" {
		rounds = 50
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := mathrand.New(mathrand.NewPCG(seed, 1))
	data := t.TempDir()
	acknowledged := map[string]string{} // tag → digest
	var upload, content string
	killed := 0
	for round := range rounds {
		c := start(t, data)
		verify(t, c.host, acknowledged)
		if upload != "" {
			resume(t, c.host, upload, content)
		}
		upload, content = beginUpload(t, c.host)
		var mu sync.Mutex
		var clients sync.WaitGroup
		timer := time.AfterFunc(time.Duration(20+rng.IntN(400))*time.Millisecond, func() { _ = c.cmd.Process.Kill() })
		for i := range 3 {
			clients.Go(func() {
				for n := 0; ; n++ {
					tag := fmt.Sprintf("r%d-c%d-%d", round, i, n)
					image := must(random.Image(int64(1000+n*50_000), 2))
					if err := crane.Push(image, c.host+"/app:"+tag); err != nil {
						return // it was killed
					}
					mu.Lock()
					acknowledged[tag] = must(image.Digest()).String()
					mu.Unlock()
				}
			})
		}
		clients.Wait()
		timer.Stop()
		if err := c.cmd.Wait(); err != nil {
			killed++
		}
	}
	c := start(t, data)
	verify(t, c.host, acknowledged)
	if killed != rounds {
		t.Errorf("killed %d times of %d", killed, rounds)
	}
	t.Logf("%d pushes were acknowledged in %d rounds", len(acknowledged), rounds)
}

func verify(t *testing.T, host string, acknowledged map[string]string) {
	t.Helper()
	for tag, want := range acknowledged {
		image, err := crane.Pull(host + "/app:" + tag)
		if err != nil {
			t.Fatalf("acknowledged %s: %v", tag, err)
		}
		if got := must(image.Digest()).String(); got != want {
			t.Fatalf("%s is %s, acknowledged was %s", tag, got, want)
		}
		readLayers(t, image)
	}
}

// readLayers reads all of an image; bytes are checked against their digests on the way.
func readLayers(t *testing.T, image v1.Image) {
	t.Helper()
	for _, l := range must(image.Layers()) {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatalf("layer %s: %v", must(l.Digest()), err)
		}
		r.Close()
	}
}

func send(t *testing.T, method, url string, body []byte, contentRange string) *http.Response {
	t.Helper()
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentRange != "" {
		r.Header.Set("Content-Range", contentRange)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res
}

// beginUpload sends two thirds of a blob.
func beginUpload(t *testing.T, host string) (path, content string) {
	t.Helper()
	raw := make([]byte, 3<<20)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	res := send(t, "POST", "http://"+host+"/v2/app/blobs/uploads/", nil, "")
	path = res.Header.Get("Location")
	if res := send(t, "PATCH", "http://"+host+path, raw[:2<<20], ""); res.StatusCode != 202 {
		t.Fatalf("PATCH: %s", res.Status)
	}
	return path, string(raw)
}

// resume sends what the Range of the upload leaves.
func resume(t *testing.T, host, path, content string) {
	t.Helper()
	res := send(t, "GET", "http://"+host+path, nil, "")
	var last int
	if n, err := fmt.Sscanf(res.Header.Get("Range"), "0-%d", &last); n != 1 || res.StatusCode != 204 {
		t.Fatalf("status of the upload: %s, Range %q, %v", res.Status, res.Header.Get("Range"), errors.Join(err))
	}
	from := last + 1
	if last == 0 {
		from = 0
	}
	d := digest.FromString(content)
	res = send(t, "PUT", "http://"+host+path+"?digest="+d.String(), []byte(content[from:]), fmt.Sprintf("%d-%d", from, len(content)-1))
	if res.StatusCode != 201 {
		t.Fatalf("resumed from %d: %s", from, res.Status)
	}
	t.Logf("resumed from %d of %d", from, len(content))
}

func TestTakenAddress(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	err := run(context.Background(), l.Addr().String(), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("error %v", err)
	}
}
