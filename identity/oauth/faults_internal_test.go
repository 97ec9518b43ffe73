package oauth

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/postgres"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// crashEnv is what the process that is killed gets from its test: a folder, the database's address, a server, a grant, a point, the time.
const crashEnv = "ATCR_TEST_OAUTH_CRASH"

// TestCrashChild is the process that is killed.
func TestCrashChild(t *testing.T) {
	args := strings.Split(os.Getenv(crashEnv), "\n")
	if len(args) != 6 {
		t.Skip("only as the second process of TestKilled")
	}
	dir, address, server, id, point := args[0], args[1], args[2], args[3], args[4]
	seconds, err := strconv.ParseInt(args[5], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var db *sqldb.DB
	if address == "" {
		db, err = sqlite.Open(t.Context(), filepath.Join(dir, "oauth.db"))
	} else {
		db, err = postgres.Open(t.Context(), address)
	}
	if err != nil {
		t.Fatal(err)
	}
	dirs := identity.NewMockDirectory()
	dirs.Insert(accountAt(alice, "alice.test", server))
	ctx := crashpoint.With(t.Context(), func(name string) error {
		switch point {
		case name:
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "stay at " + name:
			fmt.Println("staying")
			select {}
		}
		return nil
	})
	c, err := New(ctx, Config{
		DB: db, Directory: dirs, URL: "http://127.0.0.1:5000", Scopes: testScopes, KeyPath: filepath.Join(dir, "client.key"),
		SealPath: filepath.Join(dir, "seal.key"), TestMode: true, Clock: func() time.Time { return time.Unix(seconds, 0) },
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Do(ctx, id, newRequest(t, "the body"))
	t.Fatalf("it was not killed: %v", err)
}

// child is the other process.
func (w *world) child(point string, g *grant) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), os.Args[0], "-test.run=^TestCrashChild$")
	cmd.Env = append(os.Environ(), crashEnv+"="+strings.Join([]string{
		w.dir, realtest.DatabaseAddress(w.t, w.database()), w.proxy.URL, g.id, point, fmt.Sprint(w.clock.Now().Unix()),
	}, "\n"))
	return cmd
}

func (w *world) killedAt(point string, g *grant) {
	w.t.Helper()
	out, err := w.child(point, g).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		w.t.Fatalf("the other process ended by itself: %v\n%s", err, out)
	}
}

// TestKilled kills a process at each point of a refresh; another one goes on with what it left.
func TestKilled(t *testing.T) {
	for _, point := range crashpoint.OfOAuth() {
		for name, later := range map[string]time.Duration{"the token lives": 56 * time.Minute, "the token is over": 2 * time.Hour} {
			t.Run(point+", "+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.lostAfter = 300 * time.Millisecond
				g := w.server.signIn(alice, w.Client)
				w.clock.add(later)
				w.killedAt(point, g)
				row := w.row(g)
				if marked := row.refreshing != ""; marked != (point != crashpoint.RefreshSaved) {
					t.Errorf("marked: %v", marked)
				}
				switch point {
				case crashpoint.RefreshMarked: // it was never shown
					w.counts(0, 0, 0)
					w.must(g)
					if row := w.row(g); row.alive(w.clock.Now()) && !row.lost && row.generation == 0 {
						t.Error("nobody is told that an answer may be lost")
					}
					w.clock.add(2 * time.Hour)
					w.must(g)
					if row := w.row(g); row.lost || row.refreshing != "" || row.generation < 1 {
						t.Errorf("row: lost %v, mark %q, generation %d", row.lost, row.refreshing, row.generation)
					}
				case crashpoint.RefreshAnswered: // the only answer died with the process
					w.counts(1, 0, 0)
					kindIs(t, do(t, w.Client, g), ErrEnded, "was lost, in a crash or on the way")
					kindIs(t, do(t, w.Client, g), ErrEnded, "was lost, in a crash or on the way")
					w.counts(2, 1, 0)
				case crashpoint.RefreshSaved:
					w.must(g)
					w.counts(1, 0, 0)
				}
			})
		}
	}
}

// TestKilledBesideOthers: a process is killed in the middle of a refresh that others wait for.
func TestKilledBesideOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lostAfter = 3 * time.Second
	g := w.server.signIn(alice, w.Client)
	w.clock.add(2 * time.Hour)
	cmd := w.child("stay at "+crashpoint.RefreshMarked, g)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "staying\n" {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	other := w.client(t.Context(), w.another())
	other.lostAfter = w.lostAfter
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if err := do(t, []*Client{w.Client, other}[i%2], g); err != nil {
				t.Error(err)
			}
		})
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	w.counts(1, 0, 0)
	if row := w.row(g); row.lost || row.refreshing != "" || row.generation != 1 {
		t.Errorf("row: lost %v, mark %q, generation %d", row.lost, row.refreshing, row.generation)
	}
}

// TestMarkOfAnother: what another process is at is waited for as long as it may take, and no longer.
func TestMarkOfAnother(t *testing.T) {
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	w.clock.add(2 * time.Hour)
	other := w.client(t.Context(), w.another())
	if ok, err := other.store.mark(t.Context(), g, "other"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	done := make(chan error, 1)
	go func() { done <- do(t, w.Client, g) }()
	// It saves at last: nothing is asked.
	time.AfterFunc(100*time.Millisecond, func() {
		r := other.ask(t.Context(), g, false)
		if r.tokens == nil {
			t.Errorf("%+v", r)
			return
		}
		if _, err := other.save(t.Context(), g.with(r.tokens, w.clock.Now())); err != nil {
			t.Error(err)
		}
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
	w.counts(1, 0, 0)
	// Here it has died.
	w.lostAfter = 400 * time.Millisecond
	w.clock.add(2 * time.Hour)
	if ok, err := other.store.mark(t.Context(), w.row(g), "again"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	began := time.Now()
	w.must(g)
	if d := time.Since(began); d < w.lostAfter {
		t.Errorf("it waited %s, less than %s", d, w.lostAfter)
	}
	w.counts(2, 0, 0)
}

// TestTokensThatCantBeStored: they are used from memory, renewed there on SQLite, and stored when that works.
func TestTokensThatCantBeStored(t *testing.T) {
	var break_ atomic.Bool
	var w *world
	ctx := crashpoint.With(t.Context(), func(name string) error {
		if name == crashpoint.RefreshAnswered && break_.CompareAndSwap(true, false) {
			if _, err := w.db.Write().ExecContext(t.Context(), `alter table oauth_grant rename to away`); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	w = newWorldIn(t, ctx, t.TempDir())
	g := w.server.signIn(alice, w.Client)
	w.clock.add(2 * time.Hour)
	break_.Store(true)
	for range 3 {
		w.must(g)
	}
	w.counts(1, 0, 0)
	w.clock.add(2 * time.Hour)
	err := do(t, w.Client, g)
	switch {
	case w.db.Dialect() == sqldb.SQLite && err != nil:
		t.Error(err)
	case w.db.Dialect() == sqldb.Postgres && err == nil:
		t.Error("it was refreshed although another process could not see it")
	}
	refreshes, _, _ := w.server.counts()
	if _, err := w.db.Write().ExecContext(t.Context(), `alter table away rename to oauth_grant`); err != nil {
		t.Fatal(err)
	}
	run, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(run) }()
	if err := realtest.WaitFor(30*time.Second, func() error {
		if len(w.unsaved.all()) > 0 {
			return errors.New("tokens are still in memory alone")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// Another process finds them.
	if err := do(t, w.client(t.Context(), w.another()), g); err != nil {
		t.Error(err)
	}
	if now, replays, _ := w.server.counts(); replays != 0 || now > refreshes+1 {
		t.Errorf("%d refreshes, %d spent tokens shown", now, replays)
	}
}

// TestDiskFull fills a real disk between a server's answer and its being stored.
func TestDiskFull(t *testing.T) {
	realtest.OnlySQLite(t)
	disk := realtest.NewSmallDisk(t, 4<<20)
	var full atomic.Bool
	ctx := crashpoint.With(t.Context(), func(name string) error {
		if name == crashpoint.RefreshAnswered && full.CompareAndSwap(true, false) {
			disk.Fill(0)
		}
		return nil
	})
	w := newWorldIn(t, ctx, disk.Dir)
	g := w.server.signIn(alice, w.Client)
	w.server.set(func() { w.server.pad = 12 << 10 })
	w.clock.add(2 * time.Hour)
	full.Store(true)
	for range 3 {
		w.must(g)
	}
	if len(w.unsaved.all()) != 1 || w.row(g).generation != 0 {
		t.Fatal("the disk was not full: the test shows nothing")
	}
	w.clock.add(2 * time.Hour)
	for range 3 {
		w.must(g)
	}
	w.counts(2, 0, 0)
	disk.Free()
	if err := realtest.WaitFor(30*time.Second, func() error {
		w.must(g)
		if len(w.unsaved.all()) > 0 {
			return errors.New("tokens are still in memory alone")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if row := w.row(g); row.generation != 2 || row.refreshing != "" {
		t.Errorf("row: generation %d, mark %q", row.generation, row.refreshing)
	}
	if err := do(t, w.client(t.Context(), w.another()), g); err != nil {
		t.Error(err)
	}
	w.counts(2, 0, 0)
}

// TestSilence: a server that says nothing costs those who have a token no more than some patience, and ends nothing.
func TestSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	c := w.client(t.Context(), w.db)
	c.agent.http.Transport = &impatient{next: c.agent.http.Transport}
	silent := w.proxy.Inject(realtest.Fault{Kind: realtest.Hang, Path: "/token", Times: -1})
	w.clock.add(56 * time.Minute)
	if err := do(t, c, g); err != nil {
		t.Error(err)
	}
	if row := w.row(g); !row.lost || silent.Fired() != 1 {
		t.Errorf("lost %v, asked %d times", row.lost, silent.Fired())
	}
	w.clock.add(time.Hour)
	kindIs(t, do(t, c, g), ErrUnavailable, "does not answer")
	w.proxy.Clear()
	w.clock.add(time.Minute)
	if err := do(t, c, g); err != nil {
		t.Error(err)
	}
	w.counts(1, 0, 0)
	// The account's server itself.
	c.agent.http.Transport.(*impatient).all.Store(true)
	w.proxy.Inject(realtest.Fault{Kind: realtest.Hang, Path: "/xrpc/", Times: -1})
	kindIs(t, do(t, c, g), ErrUnavailable, "does not answer")
	w.proxy.Inject(realtest.Fault{Kind: realtest.Hang, Path: "/revoke", Times: -1})
	if err := c.End(t.Context(), g.id); err != nil {
		t.Error(err)
	}
}

// impatient waits a moment for answers to refreshes and revocations, or for all.
type impatient struct {
	next http.RoundTripper
	all  atomic.Bool
}

func (i *impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	if !i.all.Load() && strings.HasPrefix(r.URL.Path, "/xrpc/") {
		return i.next.RoundTrip(r)
	}
	ctx, cancel := context.WithTimeout(r.Context(), 300*time.Millisecond)
	resp, err := i.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	context.AfterFunc(r.Context(), cancel) // the body is read by then
	return resp, nil
}

// TestHugeAnswers: an answer without an end is read as far as it may be.
func TestHugeAnswers(t *testing.T) {
	const most = 8 << 20 // what may be on its way in buffers, and more
	for name, c := range map[string]struct {
		path   string
		status int
	}{
		"tokens":             {"/token", 200},
		"refusal of refresh": {"/token", 400},
		"refusal of a call":  {"/xrpc/", 403},
		"revocation":         {"/revoke", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			g := w.server.signIn(alice, w.Client)
			var sent atomic.Int64
			var over sync.WaitGroup
			w.server.set(func() {
				w.server.answer = func(rw http.ResponseWriter, r *http.Request) bool {
					if !strings.HasPrefix(r.URL.Path, c.path) {
						return false
					}
					over.Add(1)
					defer over.Done()
					rw.WriteHeader(c.status)
					for block := []byte(strings.Repeat("x", 1<<16)); sent.Load() < 1<<30; sent.Add(1 << 16) {
						if _, err := rw.Write(block); err != nil {
							break
						}
					}
					return true
				}
			})
			if c.path == "/revoke" {
				if err := w.End(t.Context(), g.id); err != nil {
					t.Error(err)
				}
			} else {
				if c.path == "/token" {
					w.clock.add(56 * time.Minute)
				}
				resp, err := w.Do(t.Context(), g.id, newRequest(t, "the body"))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if row := w.row(g); row.lost != (c.path == "/token") {
					t.Errorf("lost: %v", row.lost)
				}
			}
			if w.server.CloseClientConnections(); sent.Load() > 3*most {
				t.Errorf("%d MiB were taken", sent.Load()>>20)
			}
			over.Wait()
		})
	}
}

// TestDirectoryAway: who has a token can go on; no refresh token is shown while nobody knows whose server it is.
func TestDirectoryAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.server.signIn(alice, w.Client)
	away := &awayDirectory{MockDirectory: w.dirs}
	away.err.Store(&errAway)
	w.config.Directory = away
	w.must(g)
	w.clock.add(2 * time.Hour)
	kindIs(t, do(t, w.Client, g), ErrUnavailable, "can't be looked up now")
	w.counts(0, 0, 0)
	away.err.Store(&identity.ErrDIDNotFound)
	kindIs(t, do(t, w.Client, g), ErrEnded, "can't be found any more")
	away.err.Store(nil)
	w.must(g)
	away.silent.Store(true)
	w.must(g)
}

var errAway = fmt.Errorf("%w: no answer", identity.ErrDIDResolutionFailed)

type awayDirectory struct {
	*identity.MockDirectory
	err    atomic.Pointer[error]
	silent atomic.Bool
}

func (d *awayDirectory) LookupDID(ctx context.Context, did syntax.DID) (*identity.Account, error) {
	if err := d.err.Load(); err != nil {
		return nil, *err
	}
	if d.silent.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return d.MockDirectory.LookupDID(ctx, did)
}
