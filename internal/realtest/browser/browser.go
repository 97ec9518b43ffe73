package browser

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// Options configures [New].
type Options struct {
	// On is the host that the browser runs on, with its names; it takes the certificates of [realtest.Host.TLS]. nil: this machine.
	On *realtest.Host
	// Args are more flags for Chromium, without their dashes: "lang=de".
	Args []string
}

// A Browser is a Chromium of its own, with a profile in a temporary folder. It may be used by several goroutines; a [Page] may not.
type Browser struct {
	ctx context.Context
	cmd *exec.Cmd
}

// New starts a browser and stops it, with all its processes, when the test ends.
func New(t testing.TB, o Options) *Browser {
	t.Helper()
	realtest.Need(t, tools.Chromium, tools.Axe)
	profile, err := os.MkdirTemp("", "atcr-browser-")
	if err != nil {
		t.Fatal(err)
	}
	b := &Browser{}
	var output tail
	flags := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(tools.Path(tools.Chromium)), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(profile), chromedp.Env("HOME="+profile, "XDG_CONFIG_HOME="+profile, "XDG_CACHE_HOME="+profile),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true), chromedp.Flag("no-proxy-server", true),
		chromedp.CombinedOutput(&output), chromedp.WindowSize(width, height),
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
			if o.On != nil {
				c := o.On.Command(realtest.Command{Path: cmd.Path, Args: cmd.Args[1:]})
				cmd.Path, cmd.Args, cmd.Env = lookPath(c.Path), append([]string{c.Path}, c.Args...), c.Env
			}
			b.cmd = cmd
		}))
	if o.On != nil {
		keys, err := spki(o.On.CA(), filepath.Join(filepath.Dir(o.On.CA()), "intermediate.crt"))
		if err != nil {
			t.Fatalf("browser: the authority of TLS on %s: %v", o.On.Name, err)
		}
		flags = append(flags, chromedp.Flag("ignore-certificate-errors-spki-list", keys))
	}
	for _, arg := range o.Args {
		name, value, valued := strings.Cut(arg, "=")
		if valued {
			flags = append(flags, chromedp.Flag(name, value))
		} else {
			flags = append(flags, chromedp.Flag(name, true))
		}
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), flags...)
	ctx, cancel := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(func() {
		cancel()
		stop() // it returns when the process has ended
		if b.cmd != nil && b.cmd.Process != nil {
			_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) // what it left behind
		}
		if err := realtest.WaitFor(limit, func() error { return os.RemoveAll(profile) }); err != nil {
			t.Errorf("browser: its profile: %v", err)
		}
		if t.Failed() {
			t.Logf("output of Chromium:\n%s", output.String())
		}
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("browser: starting Chromium: %v\n%s", err, output.String())
	}
	b.ctx = ctx
	return b
}

func lookPath(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return name
}

// spki lists the hashes of the public keys of certificates, as Chromium wants them.
func spki(files ...string) (string, error) {
	var keys []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		block, _ := pem.Decode(raw)
		if block == nil {
			return "", fmt.Errorf("%s is not PEM", file)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		keys = append(keys, base64.StdEncoding.EncodeToString(sum[:]))
	}
	return strings.Join(keys, ","), nil
}

// shots is the folder of pictures; "" when none are wanted.
func shots() string { return os.Getenv("ATCR_SHOTS") }

// saveShot writes a picture, if they are wanted.
func saveShot(name string, png []byte) error {
	dir := shots()
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("ATCR_SHOTS: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
}

// tail keeps the last bytes that were written.
type tail struct {
	mu   sync.Mutex
	last []byte
}

const tailBytes = 16 << 10

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, b...)
	t.last = t.last[max(0, len(t.last)-tailBytes):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.last)
}
