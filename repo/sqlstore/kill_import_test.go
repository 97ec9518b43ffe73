package sqlstore_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

const killCAR = "ATCR_TEST_KILL_CAR" // set in the child: the CAR to import

// importUntilKilled says when it begins and when it has ended.
func importUntilKilled(path, multibase, car string) error {
	ctx := context.Background()
	r, _, _, err := openKilled(ctx, path, multibase)
	if err != nil {
		return err
	}
	f, err := os.Open(car)
	if err != nil {
		return err
	}
	fmt.Println("begin")
	_, err = repo.Importer{AnyKey: true}.Import(ctx, r, repo.Source{Reader: f})
	if err == nil {
		fmt.Println("done")
	}
	return err
}

// TestKillImport: an import that is killed leaves all or nothing, into an empty repository and into one with records.
func TestKillImport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	killImport(t, func(i int) string { return filepath.Join(dir, fmt.Sprintf("%d.db", i)) })
}

func killImport(t *testing.T, database func(i int) string) {
	ctx := t.Context()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	from := repotest.Open(t, memstore.New(), repo.Options{})
	var ws []repo.Write
	for i := range 6000 {
		v, err := repo.RecordFrom(map[string]string{"v": fmt.Sprint(i, string(make([]byte, 300)))})
		if err != nil {
			t.Fatal(err)
		}
		ws = append(ws, repo.Write{Action: repo.Put, Collection: "io.atcr.tag", RKey: fmt.Sprintf("k%d", i*7919%60000), Record: v})
	}
	if _, err := from.Apply(ctx, ws); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var car bytes.Buffer
	if err := repo.ExportCAR(ctx, from, &car, nil); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "x.car")
	if err := os.WriteFile(file, car.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rounds := 4
	if os.Getenv("ATCR_LONG") != "" {
		rounds = 25
	}
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 6))
	took := timeImport(t, database(2*rounds), key.Multibase(), file)
	t.Logf("seed %d; an import takes %v", seed, took)
	halved := 0
	for i := range 2 * rounds {
		path := database(i)
		had := int64(i%2) * 50
		r, _, done, err := openKilled(ctx, path, key.Multibase())
		if err != nil {
			t.Fatal(err)
		}
		if had > 0 {
			if _, err := r.Apply(ctx, ws[:had]); err != nil {
				t.Fatal(err)
			}
		}
		before, err := r.Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		done()
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), killPath+"="+path, killKey+"="+key.Multibase(), killCAR+"="+file)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		begin := make([]byte, 6)
		if _, err := out.Read(begin); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rnd.Int64N(int64(took) + 1))) // the moment is what is tried
		cmd.Process.Kill()                                     //nolint:errcheck // it may have ended
		said := new(bytes.Buffer)
		said.ReadFrom(out) //nolint:errcheck // killed
		cmd.Wait()         //nolint:errcheck // killed
		whole := bytes.Contains(said.Bytes(), []byte("done"))
		r, s, done, err := openKilled(ctx, path, key.Multibase())
		if err != nil {
			t.Fatal(err)
		}
		after, err := r.Head(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n := int64(0)
		for _, err := range r.List(ctx, "io.atcr.tag", "", false) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		switch {
		case after.CID == before.CID && n == had && !whole:
			halved++
		case after.CID != before.CID && n == 6000:
		default:
			t.Fatalf("round %d: %d records, done %v, commit %s after %s", i, n, whole, after.CID, before.CID)
		}
		repotest.Check(t, r, s)
		done()
	}
	if halved == 0 {
		t.Error("no kill came in time")
	}
	t.Logf("%d kills, %d of them before the commit", 2*rounds, halved)
}

// timeImport is how long an import takes that nobody kills.
func timeImport(t *testing.T, path, key, car string) time.Duration {
	t.Helper()
	r, _, done, err := openKilled(t.Context(), path, key)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	f, err := os.Open(car)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	began := time.Now()
	if _, err := (repo.Importer{AnyKey: true}).Import(t.Context(), r, repo.Source{Reader: f}); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}
