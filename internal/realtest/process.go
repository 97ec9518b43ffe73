package realtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	stopLimit   = time.Minute // from the polite signal to the other one: more than programs take to drain
	keepLines   = 60          // of the end of the output, shown when a test fails
	keepFirst   = 30          // of its beginning, too: a crash says there what it was
	maxLineSize = 1 << 20
)

// Command describes a program to start.
type Command struct {
	Name string   // in messages; empty: the program's
	Path string   // the program
	Args []string // without the program
	Dir  string   // working folder; empty: the test's
	Env  []string // added to the test's environment

	Each func(line string) // if set, called with each line of output, of several goroutines

	credential *syscall.Credential // whom it runs as; nil: the test's user
}

// A Process is a program that a test started. Its methods may be called from
// several goroutines.
type Process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string   // stdout, while somebody reads it
	done  chan struct{} // closed after the program ended and its output was read
	err   error         // of Wait; valid after done

	mu    sync.Mutex
	first []string // lines of stdout and stderr
	log   []string // the last ones
}

// Start starts c. When the test ends the program's standard input is closed and
// it gets SIGTERM, then its whole process group SIGKILL. If the test failed, the
// end of its output is logged.
func Start(t testing.TB, c Command) *Process {
	t.Helper()
	p, err := start(c)
	if err != nil {
		t.Fatalf("realtest: start %s: %v", c.Path, err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", p.name, p.Log())
		}
	})
	return p
}

func start(c Command) (*Process, error) {
	p := &Process{name: c.Name, lines: make(chan string, 64), done: make(chan struct{})}
	if p.name == "" {
		p.name = c.Path
	}
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Dir = c.Dir
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.SysProcAttr = dieWithParent()
	p.cmd.SysProcAttr.Credential = c.credential
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	var readers sync.WaitGroup
	readers.Go(func() { p.read(stdout, true, c.Each); close(p.lines) })
	readers.Go(func() { p.read(stderr, false, c.Each) })
	go func() {
		readers.Wait()
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// read keeps the lines of r for the log and offers those of stdout to Line;
// a program whose output nobody reads is not held up.
func (p *Process) read(r io.Reader, stdout bool, each func(string)) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxLineSize)
	for sc.Scan() {
		p.mu.Lock()
		p.log = append(p.log, sc.Text())
		if len(p.log) > keepLines {
			if len(p.first) < keepFirst {
				p.first = append(p.first, p.log[0])
			}
			p.log = p.log[len(p.log)-keepLines:]
		}
		p.mu.Unlock()
		if each != nil {
			each(sc.Text())
		}
		if stdout {
			select {
			case p.lines <- sc.Text():
			default:
			}
		}
	}
	_, _ = io.Copy(io.Discard, r) // after a line past the limit
}

// Line is the next line of standard output. It is an error when the program
// ends first or limit passes.
func (p *Process) Line(limit time.Duration) (string, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case line, ok := <-p.lines:
		if !ok {
			<-p.done
			return "", fmt.Errorf("%s ended: %v\n%s", p.name, p.err, p.Log())
		}
		return line, nil
	case <-timer.C:
		return "", fmt.Errorf("%s printed no line in %s\n%s", p.name, limit, p.Log())
	}
}

// Send writes one line to standard input.
func (p *Process) Send(line string) error {
	_, err := io.WriteString(p.stdin, line+"\n")
	return err
}

// Log is what the program printed: its first lines and its last.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.first) == keepFirst {
		return strings.Join(p.first, "\n") + "\n…\n" + strings.Join(p.log, "\n")
	}
	return strings.Join(append(slices.Clone(p.first), p.log...), "\n")
}

// Pid is the program's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends sig to the program.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Stop ends the program politely, then by force, and returns what Wait said:
// nil for exit status 0. Stopping twice is harmless.
func (p *Process) Stop() error {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-p.done:
		p.killGroup() // what it left behind
		return p.err
	case <-timer.C:
		_ = p.Kill()
		return fmt.Errorf("%s did not stop in %s and was killed", p.name, stopLimit)
	}
}

// Kill is kill -9 on the whole process group; it returns when the program is
// gone.
func (p *Process) Kill() error {
	p.killGroup()
	<-p.done
	return p.err
}

func (p *Process) killGroup() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// FreePort returns a loopback TCP port that nothing listens on. Give port 0 to
// what can take it; this is for programs that cannot, and for addresses that are
// wanted again after a restart.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// FreeAddr is a free port as an address, 127.0.0.1:PORT, where there is no
// testing.TB (in the Setup of a testscript).
func FreeAddr() (string, error) {
	port, err := freePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// The system hands out ports from 32768 to whoever connects or listens on port 0,
// so one of those may be taken again at once. Nobody gets one below unasked.
const firstPort, lastPort = 15000, 32767

// freePort takes any of them, since other test processes do the same.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

// WaitFor calls ok every 20 ms until it returns nil or limit has passed; the
// last error is returned.
func WaitFor(limit time.Duration, ok func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// WaitListening waits until something accepts connections at addr, or p ends.
func (p *Process) WaitListening(addr string, limit time.Duration) error {
	ended := errors.New("ended")
	err := WaitFor(limit, func() error {
		select {
		case <-p.done:
			return nil
		default:
		}
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
	select {
	case <-p.done:
		return fmt.Errorf("%s %w: %v\n%s", p.name, ended, p.err, p.Log())
	default:
		return err
	}
}
