package appview_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry/appview"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/postgres"
)

const childEnv = "ATCR_TEST_APPVIEW_CHILD"

// child is what one server process of this test is told. The process is this test binary, so it is built as the test is.
type child struct {
	Kind, Dir, Addr, PLC, PDS, Owner, HoldDID string
	// Database is one of PostgreSQL; empty: files in Dir.
	Database string
	// Point is where the process kills itself, after it has said so.
	Point string
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		var c child
		err := json.Unmarshal([]byte(text), &c)
		if err == nil {
			err = c.run()
		}
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
	os.Exit(realtest.Main(m))
}

func (c child) run() error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx := crashpoint.With(context.Background(), func(point string) error {
		if point == c.Point {
			fmt.Println("point", point)
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	})
	var db *sqldb.DB
	if c.Database != "" {
		var err error
		if db, err = postgres.Open(ctx, c.Database); err != nil {
			return err
		}
	}
	var handler http.Handler
	var run func(context.Context) error
	if c.Kind == "hold" {
		s, err := hold.New(ctx, hold.Config{
			Dir: c.Dir, PublicURL: "http://" + c.Addr, OwnerDID: c.Owner, Public: true, TestMode: true,
			DB: db, PLCURL: c.PLC, HandleResolverURL: c.PDS, Log: log,
		})
		if err != nil {
			return err
		}
		handler, run = s.Handler(), s.Run
	} else {
		s, err := appview.New(ctx, appview.Config{
			Dir: c.Dir, BaseURL: "http://" + c.Addr, DefaultHold: c.HoldDID, TestMode: true,
			DB: db, PLCURL: c.PLC, HandleResolverURL: c.PDS, Log: log,
		})
		if err != nil {
			return err
		}
		handler, run = s.Handler(), s.Run
	}
	ln, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return err
	}
	go run(ctx)
	go func() { // the parent holds the other end: no child outlives it
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("ready")
	return http.Serve(ln, handler)
}

// server is a child process that can be started again.
type server struct {
	child
	cmd   *exec.Cmd
	ended chan string // the crash point it died at, or ""
}

func (s *server) start(t *testing.T, point string) {
	t.Helper()
	s.Point = point
	text, err := json.Marshal(s.child)
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	s.cmd.Stderr = os.Stderr
	if _, err := s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		s.cmd.Process.Kill()
		t.Fatalf("%s did not start: %q", s.Kind, lines.Text())
	}
	ended := make(chan string, 1)
	s.ended = ended
	cmd := s.cmd
	go func() {
		died := ""
		for lines.Scan() {
			died = strings.TrimPrefix(lines.Text(), "point ")
		}
		cmd.Wait()
		ended <- died
	}()
}

func (s *server) stop() string {
	s.cmd.Process.Kill()
	return <-s.ended
}

// services is a hold and an AppView, each a process, over the reference PDS.
type services struct {
	t         *testing.T
	net       *realtest.Net
	alice     realtest.Account
	hold, app *server
	auth      remote.Option
}

func newServices(t *testing.T) *services {
	n := realtest.Network(t, realtest.NetworkOptions{})
	dir := t.TempDir()
	h := &services{t: t, net: n, alice: n.Account("alice")}
	holdAddr := fmt.Sprintf("localhost:%d", realtest.FreePort(t))
	base := child{PLC: n.PLC, PDS: n.PDS[0], Owner: h.alice.DID, HoldDID: "did:web:" + strings.ReplaceAll(holdAddr, ":", "%3A")}
	h.hold, h.app = &server{child: base}, &server{child: base}
	h.hold.Kind, h.hold.Dir, h.hold.Addr = "hold", filepath.Join(dir, "hold"), holdAddr
	h.app.Kind, h.app.Dir, h.app.Addr = "appview", filepath.Join(dir, "appview"), fmt.Sprintf("127.0.0.1:%d", realtest.FreePort(t))
	h.hold.Database, h.app.Database = realtest.DatabaseAddress(t, h.hold.Dir), realtest.DatabaseAddress(t, h.app.Dir)
	h.auth = remote.WithAuth(&authn.Basic{Username: h.alice.Handle, Password: n.AppPassword(t, "alice")})
	return h
}

func (h *services) ref(s string) name.Reference {
	h.t.Helper()
	r, err := name.ParseReference(h.app.Addr+"/"+h.alice.Handle+"/"+s, name.Insecure)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// twoParts is the size of a layer that travels in two parts.
const twoParts = 20 << 20

// image has one layer of that size and one that is small.
func image(t *testing.T, size int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, 1)
	if err != nil {
		t.Fatal(err)
	}
	small, err := random.Layer(3000, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, small); err != nil {
		t.Fatal(err)
	}
	return img
}

// A process that dies at a crash point leaves nothing that needs repair: the client's retry succeeds, what was acknowledged is
// there and verifies, and the hold knows every layer exactly once, or after a delete not at all.
func TestCrashAtEveryPoint(t *testing.T) {
	h := newServices(t)
	type where struct{ kind, point string }
	var all []where
	for _, s := range crashpoint.OfPDS() {
		all = append(all, where{"appview", s})
	}
	for _, s := range crashpoint.OfHold() {
		all = append(all, where{"hold", s})
	}
	for i, w := range all {
		t.Run(w.kind+"/"+w.point, func(t *testing.T) {
			h.t = t
			crashing := h.hold
			if w.kind == "appview" {
				crashing = h.app
			}
			repository := fmt.Sprintf("crash%d", i)
			size := int64(2 << 20)
			if w.point == crashpoint.PartAcknowledged {
				size = twoParts
			}
			img, old := image(t, size), image(t, 5000)
			h.hold.start(t, "")
			h.app.start(t, "")
			defer func() { h.hold.stop(); h.app.stop() }()
			h.retry("push what is deleted later", func() error { return remote.Write(h.ref(repository+":old"), old, h.auth) })
			oldDigest, err := old.Digest()
			if err != nil {
				t.Fatal(err)
			}
			h.retry("the hold hears of it", func() error { return h.holdKnows(repository, old, 1) })

			crashing.stop()
			crashing.start(t, w.point)
			work := make(chan error, 1)
			go func() {
				work <- retry(90*time.Second, func() error {
					if err := remote.Write(h.ref(repository+":v1"), img, h.auth); err != nil {
						return err
					}
					err := remote.Delete(h.ref(repository+"@"+oldDigest.String()), h.auth)
					if err != nil && strings.Contains(err.Error(), "MANIFEST_UNKNOWN") {
						return nil // the delete that went unanswered took place
					}
					return err
				})
			}()
			select {
			case died := <-crashing.ended:
				if died != w.point {
					t.Errorf("the process ended at %q, not at its crash point", died)
				}
			case <-time.After(60 * time.Second):
				crashing.stop()
				t.Errorf("the crash point was not reached")
			}
			crashing.start(t, "")
			if err := <-work; err != nil {
				t.Fatalf("push and delete, retried: %v", err)
			}
			h.verify(repository+":v1", img)
			h.retry("the hold knows the image once", func() error { return h.holdKnows(repository, img, 1) })
			h.retry("the hold forgets the deleted one", func() error { return h.holdKnows(repository, old, 0) })
			if _, err := remote.Head(h.ref(repository + "@" + oldDigest.String())); err == nil {
				t.Error("the deleted manifest is still served")
			}
		})
	}
}

func retry(limit time.Duration, f func() error) error { return realtest.WaitFor(limit, f) }

func (h *services) retry(what string, f func() error) {
	h.t.Helper()
	if err := retry(time.Minute, f); err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
}

// verify pulls an image without signing in, by tag and by digest; go-containerregistry checks every digest on the way.
func (h *services) verify(ref string, want v1.Image) {
	h.t.Helper()
	digest, err := want.Digest()
	if err != nil {
		h.t.Fatal(err)
	}
	got, err := remote.Image(h.ref(ref))
	if err != nil {
		h.t.Fatalf("pull %s: %v", ref, err)
	}
	if d, err := got.Digest(); err != nil || d != digest {
		h.t.Fatalf("pulled %s, %v; want %s", d, err, digest)
	}
	layers, err := got.Layers()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if err != nil {
			h.t.Fatalf("pull a layer of %s: %v", ref, err)
		}
	}
	if _, err := got.RawConfigFile(); err != nil {
		h.t.Fatal(err)
	}
}

// holdKnows compares the hold's layer records of one manifest with its layers and config: each want times.
func (h *services) holdKnows(repository string, img v1.Image, want int) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	count := map[string]int{}
	for _, l := range m.Layers {
		count[l.Digest.String()] = 0
	}
	cursor := ""
	for {
		resp, err := http.Get(fmt.Sprintf("http://%s/xrpc/com.atproto.repo.listRecords?repo=%s&collection=io.atcr.hold.layer&limit=100&cursor=%s",
			h.hold.Addr, strings.ReplaceAll(h.hold.HoldDID, "%", "%25"), cursor))
		if err != nil {
			return err
		}
		var page struct {
			Cursor  string
			Records []struct {
				Value struct{ Digest, Manifest, UserDID string }
			}
		}
		err = json.NewDecoder(resp.Body).Decode(&page)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("list layer records: %s, %v", resp.Status, err)
		}
		for _, r := range page.Records {
			if strings.HasSuffix(r.Value.Manifest, "/"+digest.Hex) && r.Value.UserDID == h.alice.DID {
				count[r.Value.Digest]++
			}
		}
		if cursor = page.Cursor; cursor == "" || len(page.Records) == 0 {
			break
		}
	}
	for _, l := range m.Layers {
		if n := count[l.Digest.String()]; n != want {
			return fmt.Errorf("%s: layer %s of %s stands %d times in the hold's records, want %d", repository, l.Digest, digest, n, want)
		}
	}
	if values := slices.Collect(func(yield func(int) bool) {
		for _, n := range count {
			if !yield(n) {
				return
			}
		}
	}); slices.Max(values) > max(want, 1) {
		return fmt.Errorf("%s: a layer stands more than once: %v", repository, count)
	}
	return nil
}
