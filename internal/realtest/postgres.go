package realtest

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
	"github.com/atcr-dev/atcr/sqldb/postgres"
)

const postgresLimit = time.Minute // of initdb, a start, a recovery

// A PostgresServer is a database cluster of a test's own, with fsync on,
// reachable by a unix socket alone.
type PostgresServer struct {
	dir     string // data, and the socket
	who     *syscall.Credential
	process *Process
	made    atomic.Int64
}

// Postgres makes a cluster in a temporary folder and runs it until the test
// ends. It takes about a second: share one between subtests, each with a
// [PostgresServer.Database] of its own. As root the server runs as the user
// postgres, since it refuses to be root.
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	Need(t, tools.PostgreSQL)
	dir, err := os.MkdirTemp("", "pg-") // not t.TempDir: others may not go into it, and a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	s := &PostgresServer{dir: dir}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if s.who, err = postgresUser(); err == nil && s.who != nil {
		err = os.Chown(dir, int(s.who.Uid), int(s.who.Gid))
	}
	if err != nil {
		t.Fatalf("realtest: %v", err)
	}
	initdb := exec.Command(filepath.Join(filepath.Dir(tools.Path(tools.PostgreSQL)), "initdb"),
		"-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
	initdb.Dir = dir
	initdb.SysProcAttr = dieWithParent()
	initdb.SysProcAttr.Credential = s.who
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("realtest: initdb: %v\n%s", err, out)
	}
	s.Start(t)
	return s
}

// postgresUser is whom the server runs as: nil is the test's own user.
func postgresUser() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err, errGID)
}

func (s *PostgresServer) data() string { return filepath.Join(s.dir, "data") }

func (s *PostgresServer) url(parameters url.Values) string {
	parameters.Set("host", s.dir)
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/postgres", RawQuery: parameters.Encode()}
	return u.String()
}

// Database is the address of a new, empty schema: as good as a database of its
// own, and made faster.
func (s *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.made.Add(1))
	db, err := postgres.Open(t.Context(), s.url(url.Values{}))
	if err != nil {
		t.Fatalf("realtest: %v", err)
	}
	_, err = db.Write().ExecContext(t.Context(), "create schema "+name)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatalf("realtest: %v", err)
	}
	return s.url(url.Values{"search_path": {name}})
}

// Start starts a server that was killed and returns when it has recovered.
func (s *PostgresServer) Start(t testing.TB) {
	t.Helper()
	s.process = Start(t, Command{Name: "postgres", Path: tools.Path(tools.PostgreSQL), Dir: s.dir, credential: s.who,
		// Its locks and memory lie in the folder, so that nothing of it is left elsewhere after a kill.
		Args: []string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "dynamic_shared_memory_type=mmap", "-c", "max_connections=60"}})
	t.Cleanup(s.stop) // before the polite end, which waits for clients
	err := WaitFor(postgresLimit, func() error {
		select {
		case <-s.process.Done():
			return nil
		default:
		}
		db, err := postgres.Open(t.Context(), s.url(url.Values{}))
		if err == nil {
			err = db.Close()
		}
		return err
	})
	select {
	case <-s.process.Done():
		t.Fatalf("realtest: postgres ended:\n%s", s.process.Log())
	default:
	}
	if err != nil {
		t.Fatalf("realtest: postgres: %v\n%s", err, s.process.Log())
	}
}

// Kill is kill -9 on every process of the server at once, as when the machine
// dies; it returns when all are gone.
func (s *PostgresServer) Kill(t testing.TB) {
	t.Helper()
	children := childrenOf(s.process.Pid())
	_ = s.process.Signal(syscall.SIGSTOP) // so that it starts no more of them
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = s.process.Kill()
	err := WaitFor(postgresLimit, func() error {
		for _, pid := range children {
			if running(pid) {
				return fmt.Errorf("process %d is still there", pid)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("realtest: kill postgres: %v", err)
	}
}

// stop is an immediate shutdown: nobody needs the data any more.
func (s *PostgresServer) stop() {
	_ = s.process.Signal(syscall.SIGQUIT)
	select {
	case <-s.process.Done():
	case <-time.After(stopLimit):
		_ = s.process.Kill()
	}
}

// childrenOf lists the processes that one has started, from /proc.
func childrenOf(parent int) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && statField(pid, 1) == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// running tells whether a process is there and no zombie.
func running(pid int) bool {
	state := statField(pid, 0)
	return state != "" && state != "Z" && state != "X"
}

// statField is a field of /proc/PID/stat after the program's name: 0 is the state, 1 the parent.
func statField(pid, i int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, ok := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	if !ok || i >= len(fields) {
		return ""
	}
	return fields[i]
}
