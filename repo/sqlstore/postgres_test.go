package sqlstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/postgres"
)

// TestPostgres runs on one server, each part in a schema of its own, but for the part that kills the server.
func TestPostgres(t *testing.T) {
	t.Parallel()
	server := realtest.Postgres(t)
	rounds := 4
	if os.Getenv("ATCR_LONG") != "" {
		rounds = 50
	}
	part := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t)
		})
	}
	part("Store", func(t *testing.T) {
		repotest.Store(t, func(t *testing.T) repo.Store { return openPostgres(t, server.Database(t)) })
	})
	part("KillCommits", func(t *testing.T) { killCommits(t, server.Database(t), rounds) })
	part("KillImport", func(t *testing.T) { killImport(t, func(int) string { return server.Database(t) }) })
	part("OpenAtOnce", func(t *testing.T) { openAtOnce(t, server.Database(t)) })
	part("ManyWriters", func(t *testing.T) { manyWriters(t, server.Database(t)) })
	part("Cursors", func(t *testing.T) { oddCursors(t, openPostgres(t, server.Database(t))) })
	part("LostCommits", func(t *testing.T) { lostCommits(t, server.Database(t), openPostgres) })
	part("LostCommitsWithoutHooks", func(t *testing.T) { lostCommits(t, server.Database(t), openWithoutHooks) })
	part("KillServer", func(t *testing.T) { killServer(t, realtest.NewPostgres(t), rounds) })
}

func openPostgres(t testing.TB, url string) *sqlstore.Store {
	t.Helper()
	db, err := postgres.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return storeOn(t, db)
}

// openWithoutHooks opens a database as with a driver of which nothing is known.
func openWithoutHooks(t testing.TB, url string) *sqlstore.Store {
	t.Helper()
	db, err := postgres.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return storeOn(t, sqldb.New(db.Write(), db.Read(), sqldb.Postgres))
}

func storeOn(t testing.TB, db *sqldb.DB) *sqlstore.Store {
	t.Helper()
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := sqlstore.New(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newKey(t *testing.T) atcrypto.PrivateKeyExportable {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// openAtOnce opens a new database many times at once: one makes the tables, one the first commit.
func openAtOnce(t *testing.T, url string) {
	key := newKey(t).Multibase()
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			_, _, done, err := openKilled(t.Context(), url, key)
			if err != nil {
				t.Error(err)
				return
			}
			done()
		})
	}
	all.Wait()
	r, s, done, err := openKilled(t.Context(), url, key)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	repotest.Check(t, r, s)
	if seqs := eventsOf(t, r); len(seqs) != 1 {
		t.Errorf("%d first commits", len(seqs))
	}
}

// eventsOf lists the numbers of all events, which must rise.
func eventsOf(t *testing.T, r *repo.Repo) (seqs []int64) {
	t.Helper()
	for e, err := range r.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if n := len(seqs); n > 0 && e.Seq <= seqs[n-1] {
			t.Fatalf("event %d after %d", e.Seq, seqs[n-1])
		}
		seqs = append(seqs, e.Seq)
	}
	return seqs
}

// manyWriters writes one repository from three pools, one of them another process's, which is killed in the end.
func manyWriters(t *testing.T, url string) {
	ctx := t.Context()
	key := newKey(t).Multibase()
	var repos [2]*repo.Repo
	var store *sqlstore.Store
	for i := range repos {
		r, s, done, err := openKilled(ctx, url, key)
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		repos[i], store = r, s
	}
	cmd, lines := startChild(t, url, key)
	const each = 60
	var all sync.WaitGroup
	for i, r := range repos {
		for g := range 2 {
			all.Go(func() {
				for n := range each {
					if err := count(ctx, r); err != nil {
						t.Error(err)
						return
					}
					if _, err := r.Apply(ctx, []repo.Write{write(fmt.Sprintf("w%d-%d-%d", i, g, n), "x")}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	acked := 0
	for acked < 40 && lines.Scan() {
		acked++
	}
	all.Wait()
	cmd.Process.Kill() //nolint:errcheck // waited for below
	for lines.Scan() {
		acked++
	}
	cmd.Wait() //nolint:errcheck // killed
	if acked < 40 {
		t.Fatalf("the other process ended after %d commits", acked)
	}
	if rec, err := repos[0].Get(ctx, "io.atcr.tag", "counter"); err != nil {
		t.Fatal(err)
	} else if js, _ := rec.JSON(); string(js) != fmt.Sprintf(`{"v":"%d"}`, 4*each) {
		t.Errorf("the counter is %s after %d swaps", js, 4*each)
	}
	for i, r := range repos {
		if r.Foreign() == 0 {
			t.Errorf("repo %d met no commit of others", i)
		}
	}
	// One event a commit: two for each round of ours, the first commit, and those of the other process, of which up to one per
	// goroutine was not acknowledged. Commits that came together are one transaction, and still one event each.
	seqs := eventsOf(t, repos[0])
	if want := 1 + 2*4*each + acked; len(seqs) < want || len(seqs) > want+4 {
		t.Errorf("%d events, want %d and at most 4 more", len(seqs), want)
	}
	repotest.Check(t, repos[0], store)
	follow(t, repos[0], repos[1])
}

// count raises a number in a record, by compare and swap.
func count(ctx context.Context, r *repo.Repo) error {
	for {
		w := write("counter", "1")
		w.Action = repo.Create
		rec, err := r.Get(ctx, w.Collection, w.RKey)
		if err == nil {
			js, err := rec.JSON()
			if err != nil {
				return err
			}
			var n int
			if _, err := fmt.Sscanf(string(js), `{"v":"%d"}`, &n); err != nil {
				return err
			}
			w = write("counter", strconv.Itoa(n+1))
			w.Action, w.Swap = repo.Update, rec.CID
		}
		if _, err = r.Apply(ctx, []repo.Write{w}); err == nil {
			return nil
		}
		if !raced(err) {
			return err
		}
	}
}

// follow commits in one Repo and waits for the event in another by what a follower waits for.
func follow(t *testing.T, from, to *repo.Repo) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := from.Apply(ctx, []repo.Write{write("news", "x")})
	if err != nil {
		t.Fatal(err)
	}
	for {
		changed := to.Changed()
		seq, err := to.Seq(ctx)
		if err != nil {
			t.Fatal(err)
		}
		before := to.Foreign()
		if seq >= c.Seq && before > 0 {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("a follower was not woken by another's commit")
		}
	}
	// And without looking at the database, which the loop above did.
	changed := to.Changed()
	if _, err := from.Apply(ctx, []repo.Write{write("news", "y")}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	case <-ctx.Done():
		t.Fatal("a follower was not woken by another's commit")
	}
}

func raced(err error) bool {
	return errors.Is(err, repo.ErrInvalidSwap) || errors.Is(err, repo.ErrExists)
}

func write(rkey, value string) repo.Write {
	w := repo.Write{Action: repo.Put, Collection: "io.atcr.tag", RKey: rkey}
	w.Record, _ = repo.RecordFrom(map[string]string{"v": value}) // a map of strings always is a record
	return w
}

func startChild(t *testing.T, url, key string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), killPath+"="+url, killKey+"="+key)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// killServer kills every process of the server while four goroutines commit, and starts it again: the same Repo goes on, what it
// acknowledged is there, what it refused is not.
func killServer(t *testing.T, server *realtest.PostgresServer, rounds int) {
	ctx := t.Context()
	r, s, done, err := openKilled(ctx, server.Database(t), newKey(t).Multibase())
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	acked, total, met, refused := map[string]string{}, 0, 0, 0
	for round := range rounds {
		var mu sync.Mutex
		var all sync.WaitGroup
		var phase atomic.Int32 // 1: the server is killed; 2: it is back
		reached := make(chan struct{})
		after, mine := 20+rand.IntN(60), 0
		for g := range 4 {
			all.Go(func() {
				for n := 0; phase.Load() < 2; n++ {
					k, v := fmt.Sprintf("g%d-%d", g, rand.IntN(100)), fmt.Sprint(round, " ", n)
					began := phase.Load()
					_, err := r.Apply(ctx, []repo.Write{write(k, v)})
					mu.Lock()
					if err != nil || phase.Load() != began {
						met++
					}
					if err != nil {
						refused++
						mu.Unlock()
						continue
					}
					acked[k] = v
					if mine++; mine == after {
						close(reached)
					}
					mu.Unlock()
				}
			})
		}
		<-reached
		phase.Store(1)
		server.Kill(t)
		server.Start(t)
		phase.Store(2)
		all.Wait()
		total += mine
		checkAcked(t, r, s, acked)
		if seqs := eventsOf(t, r); seqs[len(seqs)-1] != mustSeq(t, r) {
			t.Fatalf("the newest event is %d, the head says %d", seqs[len(seqs)-1], mustSeq(t, r))
		}
	}
	if met == 0 {
		t.Error("no commit met the dead server")
	}
	t.Logf("%d kills of the server, %d commits acknowledged, %d met a dead server, %d of them were refused", rounds, total, met, refused)
}

func mustSeq(t *testing.T, r *repo.Repo) int64 {
	t.Helper()
	seq, err := r.Seq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// oddCursors lists from where no record can be: the database's own rules for text must not show.
func oddCursors(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	r := repotest.Open(t, s, repo.Options{})
	for _, k := range []string{"a", "b", "c"} {
		if _, err := r.Apply(ctx, []repo.Write{write(k, "x")}); err != nil {
			t.Fatal(err)
		}
	}
	for after, want := range map[string]int{"": 3, "a\x00": 2, "a\xff": 2, "b\x00\xc3\x28": 1, "b\u00e9": 1, "\x00": 3, "\xff": 0} {
		n := 0
		for _, err := range r.List(ctx, "io.atcr.tag", after, false) {
			if err != nil {
				t.Fatalf("after %q: %v", after, err)
			}
			n++
		}
		if n != want {
			t.Errorf("%d records after %q, want %d", n, after, want)
		}
	}
	if _, err := r.Get(ctx, "io.atcr.tag", "a\x00\xff"); err == nil {
		t.Error("a record that can't be")
	}
	if _, err := r.PutBlob(ctx, repo.Blob{MediaType: "a\x00\xff", Data: []byte("x")}); err != nil {
		t.Errorf("an odd media type: %v", err)
	}
}
