package realtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/postgres"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

const postgresLimit = 2 * time.Minute // of initdb, a start, a recovery

// sharedPostgres is the cluster that the tests of this process share. Only tests
// import this package, so it may be a global; Main ends it.
var sharedPostgres struct {
	sync.Mutex
	main   bool // Main runs
	server *PostgresServer
}

// A PostgresServer is a database cluster of the tests' own, reachable by a unix
// socket alone.
type PostgresServer struct {
	dir     string // data, and the socket
	who     *syscall.Credential
	shared  bool // its processes end with the tests: nothing is asked of the disk
	process *Process
	made    atomic.Int64
	paths   sync.Map // files that schemas stand for, with their addresses
}

// Main runs the tests of a package and then ends what they shared:
//
//	func TestMain(m *testing.M) { os.Exit(realtest.Main(m)) }
func Main(m *testing.M) int { return Sharing(m).Run() }

// Sharing is m for testscript.Main, and does what [Main] does.
func Sharing(m *testing.M) interface{ Run() int } { return sharing{m} }

type sharing struct{ m *testing.M }

func (s sharing) Run() int {
	sharedPostgres.Lock()
	sharedPostgres.main = true
	sharedPostgres.Unlock()
	defer func() {
		sharedPostgres.Lock()
		defer sharedPostgres.Unlock()
		if server := sharedPostgres.server; server != nil {
			server.end()
		}
	}()
	return s.m.Run()
}

// Postgres returns the cluster that the tests of a package share if its TestMain
// calls [Main], else one of the test's own. Each test and subtest takes a
// [PostgresServer.Database]; none may end the server: see [NewPostgres].
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	Need(t, tools.PostgreSQL)
	sharedPostgres.Lock()
	defer sharedPostgres.Unlock()
	if !sharedPostgres.main {
		return NewPostgres(t)
	}
	if sharedPostgres.server == nil {
		s, err := makePostgres()
		if err != nil {
			t.Fatalf("realtest: %v", err)
		}
		s.shared = true
		if err := s.run(); err != nil {
			s.end()
			t.Fatalf("realtest: %v", err)
		}
		sharedPostgres.server = s
	}
	return sharedPostgres.server
}

// NewPostgres makes a cluster in a temporary folder and runs it until the test
// ends, with fsync on. It takes seconds: it is for tests that kill the server, and
// for benchmarks.
func NewPostgres(t testing.TB) *PostgresServer {
	t.Helper()
	Need(t, tools.PostgreSQL)
	s, err := makePostgres()
	if err != nil {
		t.Fatalf("realtest: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(s.dir); err != nil {
			t.Error(err)
		}
	})
	s.Start(t)
	return s
}

// makePostgres makes the cluster and does not start it. As root the server runs
// as the user postgres, since it refuses to be root.
func makePostgres() (_ *PostgresServer, err error) {
	dir, err := os.MkdirTemp("", "pg-") // not t.TempDir: others may not go into it, and a socket's path is short
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	s := &PostgresServer{dir: dir}
	if s.who, err = postgresUser(); err == nil && s.who != nil {
		err = os.Chown(dir, int(s.who.Uid), int(s.who.Gid))
	}
	if err != nil {
		return nil, err
	}
	initdb := exec.Command(filepath.Join(filepath.Dir(tools.Path(tools.PostgreSQL)), "initdb"),
		"-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions",
		// People's locale: under C every column is sorted by bytes, and no test sees one that is not.
		"--locale=C", "--locale-provider=icu", "--icu-locale=en-US")
	initdb.Dir = dir
	initdb.SysProcAttr = dieWithParent()
	initdb.SysProcAttr.Credential = s.who
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return s, nil
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

// Open opens a new, empty schema ([PostgresServer.Database]) until the test ends.
func (s *PostgresServer) Open(t testing.TB) *sqldb.DB {
	t.Helper()
	return OpenPostgres(t, s.Database(t))
}

// OpenPostgres opens a database until the test ends.
func OpenPostgres(t testing.TB, address string) *sqldb.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), address)
	if err != nil {
		t.Fatalf("realtest: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("realtest: close database: %v", err)
		}
	})
	return db
}

// databaseEnv is set by the second run of the packages with tables (Makefile).
const databaseEnv = "ATCR_DATABASE"

// OnPostgres reports whether this run is to keep tables in PostgreSQL.
func OnPostgres() bool { return os.Getenv(databaseEnv) == "postgres" }

// OnlySQLite skips a test that looks at SQLite itself.
func OnlySQLite(t testing.TB) {
	t.Helper()
	if OnPostgres() {
		t.Skip("about SQLite's files")
	}
}

// OpenDatabase opens the SQLite file of a path, or in the run on PostgreSQL the
// schema that stands for that path, again the same one while the process lives.
// The test closes it.
func OpenDatabase(t testing.TB, path string) *sqldb.DB {
	t.Helper()
	var db *sqldb.DB
	var err error
	if !OnPostgres() {
		db, err = sqlite.Open(t.Context(), path)
	} else {
		db, err = postgres.Open(t.Context(), DatabaseAddress(t, path))
	}
	if err != nil {
		t.Fatalf("realtest: %v", err)
	}
	return db
}

// DatabaseAddress is what [OpenDatabase] opens for a path in the run on
// PostgreSQL, for processes that open it themselves; else empty.
func DatabaseAddress(t testing.TB, path string) string {
	t.Helper()
	if !OnPostgres() {
		return ""
	}
	server := Postgres(t)
	if address, ok := server.paths.Load(path); ok {
		return address.(string)
	}
	address := server.Database(t)
	server.paths.Store(path, address)
	return address
}

// SortsByBytes makes sure that no text column of the open schema is sorted by
// the locale of the database: keys are compared by bytes, as in SQLite and in Go.
func SortsByBytes(t testing.TB, db *sqldb.DB) {
	t.Helper()
	rows, err := db.Read().QueryContext(t.Context(), `select table_name || '.' || column_name, coalesce(collation_name, 'the locale')
		from information_schema.columns where table_schema = current_schema() and data_type in ('text', 'character varying')
			and table_name || '.' || column_name <> 'repo_blob.media_type' order by 1`) // which nothing is sorted by
	if err != nil {
		t.Fatalf("realtest: %v", err)
	}
	defer rows.Close()
	seen := 0
	for ; rows.Next(); seen++ {
		var column, collation string
		if err := rows.Scan(&column, &collation); err != nil {
			t.Fatalf("realtest: %v", err)
		}
		if collation != "C" {
			t.Errorf("%s is sorted by %s", column, collation)
		}
	}
	if err := rows.Err(); err != nil || seen == 0 {
		t.Errorf("%d text columns, %v", seen, err)
	}
}

// Start starts a server that was killed and returns when it has recovered.
func (s *PostgresServer) Start(t testing.TB) {
	t.Helper()
	err := s.run()
	if s.process != nil {
		p := s.process
		t.Cleanup(func() {
			s.stop()
			if t.Failed() {
				t.Logf("output of postgres (last %d lines):\n%s", keepLines, p.Log())
			}
		})
	}
	if err != nil {
		t.Fatalf("realtest: %v", err)
	}
}

func (s *PostgresServer) run() (err error) {
	// Its locks and memory lie in the folder, so that nothing of it is left elsewhere after a kill.
	args := []string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses=",
		"-c", "dynamic_shared_memory_type=mmap", "-c", "max_connections=200"}
	if s.shared {
		args = append(args, "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	s.process, err = start(Command{Name: "postgres", Path: tools.Path(tools.PostgreSQL), Dir: s.dir, Args: args, credential: s.who})
	if err != nil {
		return err
	}
	err = WaitFor(postgresLimit, func() error {
		select {
		case <-s.process.Done():
			return nil
		default:
		}
		db, err := postgres.Open(context.Background(), s.url(url.Values{}))
		if err == nil {
			err = db.Close()
		}
		return err
	})
	select {
	case <-s.process.Done():
		return fmt.Errorf("postgres ended:\n%s", s.process.Log())
	default:
	}
	if err != nil {
		return fmt.Errorf("postgres: %w\n%s", err, s.process.Log())
	}
	return nil
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

// end stops the server and removes the cluster.
func (s *PostgresServer) end() {
	if s.process != nil {
		s.stop()
	}
	_ = os.RemoveAll(s.dir)
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

// running reports whether a process is there and no zombie.
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
