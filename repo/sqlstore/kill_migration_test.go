package sqlstore_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

const killMigrations = "ATCR_TEST_KILL_MIGRATIONS" // set in the child: the folder for its databases

// migrateUntilKilled makes database after database and says which one it begins.
func migrateUntilKilled(dir string) error {
	for i := 0; ; i++ {
		fmt.Println(i)
		s, err := sqlstore.Open(context.Background(), filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
}

// TestKillMigration kills a process in the middle of making the tables, at random moments: the next start makes a whole
// repository.
func TestKillMigration(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	times := 8
	if os.Getenv("ATCR_LONG") != "" {
		times = 50
	}
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 7))
	began := time.Now()
	openStore(t, filepath.Join(t.TempDir(), "whole"))
	took := time.Since(began)
	t.Logf("seed %d; a migration takes %v", seed, took)
	halved, found := 0, map[string]int{}
	for round := range times {
		dir := t.TempDir()
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), killMigrations+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after, begun := 1+rnd.IntN(3), 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if begun++; begun == after {
				time.Sleep(time.Duration(rnd.Int64N(int64(took)))) // the moment is what is tried
				cmd.Process.Kill()                                 //nolint:errcheck // seen below
			}
		}
		cmd.Wait() //nolint:errcheck // killed
		if begun < after {
			t.Fatalf("round %d: the child ended by itself", round)
		}
		last := filepath.Join(dir, strconv.Itoa(begun-1))
		state := migrated(t, last)
		if found[state]++; state != "whole" {
			halved++
		}
		s := openStore(t, last)
		r := repotest.Open(t, s, repo.Options{})
		if _, err := r.Apply(t.Context(), []repo.Write{bigRecord(t, 1)}); err != nil {
			t.Fatalf("round %d, killed when %s: %v", round, state, err)
		}
		repotest.Check(t, r, s)
	}
	if halved == 0 {
		t.Error("no kill came in time")
	}
	t.Logf("%d kills: %v", times, found)
}

// migrated looks at what a killed migration has left, before anything goes on with it.
func migrated(t *testing.T, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		return "no file"
	}
	db, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatalf("a killed migration has left: %v", err)
	}
	defer db.Close()
	var tables, version int
	if err := db.Read().QueryRowContext(t.Context(), "select count(*) from sqlite_schema where name like 'repo_%' and type = 'table' and name <> 'repo_version'").Scan(&tables); err != nil {
		t.Fatal(err)
	}
	if err := db.Read().QueryRowContext(t.Context(), "select max(version_id) from repo_version").Scan(&version); err != nil || version == 0 {
		if tables > 0 {
			t.Fatalf("%d tables of no version", tables)
		}
		return "no table"
	}
	return "whole"
}
