package sqlstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb/postgres"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

const (
	killPath = "ATCR_TEST_KILL_DB" // set in the child: the database to write to, a file or an address
	killKey  = "ATCR_TEST_KILL_KEY"
	killDID  = "did:web:kill.example"
)

func TestMain(m *testing.M) {
	if car := os.Getenv(killCAR); car != "" {
		if err := importUntilKilled(os.Getenv(killPath), os.Getenv(killKey), car); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv(killMigrations); dir != "" {
		if err := migrateUntilKilled(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if path := os.Getenv(killPath); path != "" {
		if err := writeUntilKilled(path, os.Getenv(killKey)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(realtest.Main(m))
}

// writeUntilKilled commits from four goroutines and says on stdout what was acknowledged.
func writeUntilKilled(path, multibase string) error {
	ctx := context.Background()
	r, _, _, err := openKilled(ctx, path, multibase)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	errs := make(chan error)
	for g := range 4 {
		go func() {
			rnd := rand.New(rand.NewPCG(rand.Uint64(), uint64(g)))
			for {
				key, value := fmt.Sprintf("g%d-%d", g, rnd.IntN(200)), strconv.FormatUint(rnd.Uint64(), 10)
				w := repo.Write{Action: repo.Put, Collection: "io.atcr.tag", RKey: key}
				var err error
				if w.Record, err = repo.RecordFrom(map[string]string{"v": value}); err == nil {
					_, err = r.Apply(ctx, []repo.Write{w})
				}
				if err != nil {
					errs <- err
					return
				}
				mu.Lock()
				fmt.Println(key, value)
				mu.Unlock()
			}
		}()
	}
	return <-errs
}

// openKilled opens the repository in a database; close lets go of all of it.
func openKilled(ctx context.Context, path, multibase string) (r *repo.Repo, s *sqlstore.Store, done func(), err error) {
	key, err := atcrypto.ParsePrivateMultibase(multibase)
	if err != nil {
		return nil, nil, nil, err
	}
	open := sqlite.Open
	if strings.HasPrefix(path, "postgres:") {
		open = postgres.Open
	}
	db, err := open(ctx, path)
	if err != nil {
		return nil, nil, nil, err
	}
	if s, err = sqlstore.New(ctx, db); err == nil {
		r, err = repo.Open(ctx, s, repo.Options{DID: killDID, Key: key})
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, db.Close())
	}
	return r, s, func() { r.Close(); s.Close(); db.Close() }, nil
}

func killCommits(t *testing.T, path string, times int) {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 5))
	acked := map[string]string{} // the newest acknowledged value of each key
	total := 0
	for i := range times {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), killPath+"="+path, killKey+"="+key.Multibase())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := 1 + rnd.IntN(60)
		lines, mine := bufio.NewScanner(out), 0
		for lines.Scan() {
			if k, v, ok := strings.Cut(lines.Text(), " "); ok {
				acked[k] = v
				mine++
			}
			if mine == after {
				cmd.Process.Kill() // what is still in the pipe was acknowledged, too
			}
		}
		cmd.Wait() //nolint:errcheck // killed
		if mine < after {
			t.Fatalf("round %d: the child ended by itself after %d commits", i, mine)
		}
		total += mine
		checkKilled(t, path, key.Multibase(), acked)
	}
	t.Logf("%d kills, %d commits acknowledged", times, total)
}

// checkKilled opens the database as a restart does: everything acknowledged is there and all of it verifies. The value of
// a key may be newer than the one acknowledged: it was committed when the child died.
func checkKilled(t *testing.T, path, key string, acked map[string]string) {
	t.Helper()
	ctx := t.Context()
	r, s, done, err := openKilled(ctx, path, key)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	checkAcked(t, r, s, acked)
}

func checkAcked(t *testing.T, r *repo.Repo, s *sqlstore.Store, acked map[string]string) {
	t.Helper()
	ctx := t.Context()
	newer := 0
	for k, v := range acked {
		rec, err := r.Get(ctx, "io.atcr.tag", k)
		if err != nil {
			t.Fatalf("acknowledged %s: %v", k, err)
		}
		value, err := rec.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if string(value) != fmt.Sprintf(`{"v":%q}`, v) {
			newer++
			acked[k] = strings.TrimSuffix(strings.TrimPrefix(string(value), `{"v":"`), `"}`)
		}
	}
	if newer > 4 { // each writer has at most one commit under way
		t.Fatalf("%d acknowledged records have another value", newer)
	}
	repotest.Check(t, r, s)
}

func TestKillCommits(t *testing.T) {
	t.Parallel()
	killCommits(t, filepath.Join(t.TempDir(), "repo.db"), 8)
}

func TestKillCommitsLong(t *testing.T) {
	t.Parallel()
	if os.Getenv("ATCR_LONG") == "" {
		t.Skip("ATCR_LONG is not set")
	}
	killCommits(t, filepath.Join(t.TempDir(), "repo.db"), 50)
}
