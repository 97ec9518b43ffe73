package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// The servers that are compared.
const (
	ours  = "atcr"
	dist  = "distribution"
	bare  = "net/http"
	limit = 30 * time.Second
)

// server is a process that answers on addr.
type server struct {
	name   string
	addr   string
	data   string
	cmd    *exec.Cmd
	idle   int64 // resident KiB after the start
	before int64 // peak before it was started again

	filled bool // has the many tags, or what was pushed through it

	program string   // of a registry of ours: what runs on data
	net     *network // of an AppView and its hold
}

// start brings up what rows are about, but for the networks.
func (b *bench) start(ctx context.Context) error {
	if err := b.makeLayer(); err != nil {
		return err
	}
	all := []func(context.Context) (*server, error){b.startOurs, b.startDistribution, b.startBare}
	if b.Against != "" {
		all = []func(context.Context) (*server, error){b.startOurs, b.startBefore}
	}
	for _, begin := range all {
		s, err := begin(ctx)
		if err != nil {
			return err
		}
		b.servers[s.name] = s
	}
	time.Sleep(2 * time.Second) // what start-up garbage there is goes before "idle" is read
	for _, s := range b.servers {
		if s.idle, _ = s.memory(); s.idle == 0 {
			return fmt.Errorf("%s died at its start", s.name)
		}
	}
	return nil
}

func (b *bench) startOurs(ctx context.Context) (*server, error) {
	program := b.config.ours
	if program == "" {
		program = filepath.Join(b.Folder, "embed-registry")
		if err := rounds.Build(ctx, program, "examples/embed-registry"); err != nil {
			return nil, err
		}
	}
	return startRegistry(ctx, ours, program, filepath.Join(b.Folder, "ours"))
}

func (b *bench) startBefore(ctx context.Context) (*server, error) {
	return startRegistry(ctx, before(ours), b.Against, filepath.Join(b.Folder, "before"))
}

// startRegistry starts an embed-registry.
func startRegistry(ctx context.Context, name, program, data string) (*server, error) {
	s := &server{name: name, data: data, program: program}
	return s, s.run(ctx, exec.Command(program, "--addr", "127.0.0.1:0", "--data", data), "")
}

const distributionConfig = `version: 0.1
log: { level: error, accesslog: { disabled: true } }
storage:
  filesystem: { rootdirectory: %q }
  cache: { blobdescriptor: inmemory }
  delete: { enabled: true }
  maintenance: { uploadpurging: { enabled: false } }
http: { addr: %q }
`

func (b *bench) startDistribution(ctx context.Context) (*server, error) {
	if !tools.Installed(tools.Distribution) {
		fmt.Fprintln(os.Stderr, "installing distribution…")
		if err := tools.Install(ctx, os.Stderr, tools.Distribution); err != nil {
			return nil, fmt.Errorf("install distribution: %w", err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	s := &server{name: dist, data: filepath.Join(b.Folder, "distribution")}
	cfg := filepath.Join(b.Folder, "distribution.yml")
	if err := os.WriteFile(cfg, fmt.Appendf(nil, distributionConfig, s.data, addr), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(tools.Path(tools.Distribution), "serve", cfg)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none", "OTEL_SDK_DISABLED=true")
	return s, s.run(ctx, cmd, addr)
}

func (b *bench) startBare(ctx context.Context) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{name: bare, data: b.Folder}
	return s, s.run(ctx, exec.Command(self, serveBare, filepath.Join(b.Folder, "layer")), "")
}

var address = regexp.MustCompile(`\b127\.0\.0\.1:(\d+)\b`)

// run starts the process. Without an addr the first line that it prints holds one.
func (s *server) run(ctx context.Context, cmd *exec.Cmd, addr string) error {
	s.cmd, s.addr = cmd, addr
	rounds.DieWithParent(cmd)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	if addr == "" {
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			return fmt.Errorf("%s said no address: %w", s.name, err)
		}
		if s.addr = address.FindString(line); s.addr == "" {
			return fmt.Errorf("%s said no address: %q", s.name, line)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/v2/", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not answer: %w", s.name, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stop ends the process.
func (s *server) stop() error {
	if s.cmd.Process == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(limit):
		s.cmd.Process.Kill()
		<-done
		return fmt.Errorf("%s did not stop within %v", s.name, limit)
	}
	return nil
}

// memory is what the process takes and the most it ever took, in KiB; zero where /proc does not say.
func (s *server) memory() (now, peak int64) {
	now, peak = rounds.Memory(s.cmd.Process.Pid)
	if peak > 0 {
		peak = max(peak, s.before)
	}
	return now, peak
}
