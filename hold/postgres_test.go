package hold_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

// TestPostgres runs holds whose tables are in PostgreSQL, with other processes' commits beside.
func TestPostgres(t *testing.T) {
	server := realtest.Postgres(t)
	in := func(t *testing.T) func(*hold.Config) {
		url := server.Database(t)
		return func(c *hold.Config) { c.DB = realtest.OpenPostgres(t, url) } // a pool of its own, as another process has
	}
	t.Run("ImportBeside", func(t *testing.T) { importBeside(t, in(t)) })
	t.Run("ImportWhilePushing", func(t *testing.T) { importWhilePushing(t, in(t)) })
	t.Run("MoveFiles", func(t *testing.T) { moveFiles(t, in(t), in(t)) })
	t.Run("TwoServers", func(t *testing.T) { twoServers(t, in(t)) })
	t.Run("BeforeTheFirstStart", func(t *testing.T) { beforeTheFirstStart(t, in(t)) })
}

// car is the CAR of another account with these records, as JSON by path.
func car(t *testing.T, records map[string]string) []byte {
	t.Helper()
	r := repotest.Open(t, memstore.New(), repo.Options{DID: "did:web:old.example"})
	var ws []repo.Write
	for path, js := range records {
		collection, rkey, _ := strings.Cut(path, "/")
		value, err := repo.RecordFromJSON([]byte(js))
		must(t, err)
		ws = append(ws, repo.Write{Action: repo.Create, Collection: collection, RKey: rkey, Record: value})
	}
	_, err := r.Apply(t.Context(), ws)
	must(t, err)
	var out bytes.Buffer
	must(t, repo.ExportCAR(t.Context(), r, &out, nil))
	return out.Bytes()
}

// importInto imports as the verb does, beside whatever runs.
func importInto(t *testing.T, cfg hold.Config, in func(*hold.Config), car []byte) repo.Imported {
	t.Helper()
	in(&cfg)
	o, err := datadir.OpenRepo(t.Context(), dataDir(t, cfg))
	must(t, err)
	got, err := repo.Importer{AnyKey: true}.Import(t.Context(), o.Repo, repo.Source{Reader: bytes.NewReader(car)})
	must(t, err)
	must(t, o.Close())
	return got
}

func crewRecord(did string) (path, js string) {
	return atcr.NSIDCrew + "/" + atcr.CrewRKey(did), fmt.Sprintf(`{"$type":%q,"member":%q,"role":"member","permissions":["blob:read","blob:write"],"addedAt":"2026-01-01T00:00:00.000Z"}`, atcr.NSIDCrew, did)
}

func importBeside(t *testing.T, in func(*hold.Config)) {
	h, alice, config, layer := pushed(t, in)
	h.run()
	realtest.SortsByBytes(t, h.cfg.DB)
	for _, file := range []string{"repo.db", "hold.db"} {
		if _, err := os.Stat(filepath.Join(h.cfg.Dir, file)); err == nil {
			t.Errorf("%s is in the folder", file)
		}
	}
	first, _ := alice.putManifest(t, h, "app", config, layer)
	if code, out := h.notify(alice, "push", "app", first); code != 200 {
		t.Fatalf("push: %d %v", code, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	feed, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(h.url, "http")+"/xrpc/com.atproto.sync.subscribeRepos", nil)
	must(t, err)
	defer feed.CloseNow() //nolint:errcheck // it may be closed
	feed.SetReadLimit(8 << 20)

	// What an older hold knew: a member, another captain, and the layer that a push is just about to record.
	bob := h.net.user("bob")
	layer2 := h.push(alice, data(2, 500))
	second, _ := alice.putManifest(t, h, "app", config, layer2)
	member, crew := crewRecord(bob.did)
	got := importInto(t, h.cfg, in, car(t, map[string]string{
		member:                     crew,
		atcr.NSIDCaptain + "/self": fmt.Sprintf(`{"$type":%q,"owner":%q,"public":false,"allowAllCrew":true,"deployedAt":"2020-01-01T00:00:00.000Z"}`, atcr.NSIDCaptain, bob.did),
		atcr.NSIDLayer + "/3old": fmt.Sprintf(`{"$type":%q,"digest":%q,"size":500,"mediaType":"x/y","manifest":"at://%s/io.atcr.manifest/%s","userDid":%q,"createdAt":"2026-01-01T00:00:00.000Z"}`,
			atcr.NSIDLayer, layer2, alice.did, second.Encoded(), alice.did),
	}))
	if got.Created != 2 || got.Updated != 1 || !got.Commit.CID.Defined() {
		t.Fatalf("imported %+v", got)
	}

	// At once, before anybody can have looked: a layer is recorded once.
	if code, out := h.notify(alice, "push", "app", second); code != 200 || out["layersCreated"] != 1.0 {
		t.Errorf("push after the import: %d %v, want the config's layer alone", code, out)
	}
	if n := len(h.layers()); n != 4 {
		t.Errorf("%d layer records, want 4", n)
	}
	// The firehose shows the import's commit, then that of the push.
	for want := [][]byte{got.Commit.CID.Bytes(), []byte(atcr.NSIDLayer)}; len(want) > 0; {
		_, msg, err := feed.Read(ctx)
		must(t, err)
		if bytes.Contains(msg, want[0]) {
			want = want[1:]
		}
	}
	// Soon bob is a member, and the captain is again who the configuration says.
	err = realtest.WaitFor(time.Minute, func() error {
		if code, out := h.call(bob, "POST", "io.atcr.hold.initiateUpload", "",
			map[string]any{"digest": digest.FromString("x")}); code != http.StatusOK {
			return fmt.Errorf("bob: %d %v", code, out)
		}
		var rec struct{ Value atcr.Captain }
		h.getJSON("/xrpc/com.atproto.repo.getRecord?repo="+h.DID()+"&collection="+atcr.NSIDCaptain+"&rkey=self", &rec)
		if rec.Value.Owner != h.owner.did || !rec.Value.Public {
			return fmt.Errorf("captain %+v", rec.Value)
		}
		return nil
	})
	must(t, err)
	// What the import brought can be removed, by an index made anew.
	alice.deleteManifest(t, second)
	if code, out := h.notify(alice, "delete", "app", second); code != 200 || out["layersDeleted"] != 2.0 {
		t.Errorf("delete: %d %v", code, out)
	}
	checkRepo(t, h.cfg)
	// The next start finds the same, also what was committed while it was down.
	h.stop()
	third := h.net.user("carol")
	member, crew = crewRecord(third.did)
	importInto(t, h.cfg, in, car(t, map[string]string{member: crew}))
	h.start()
	if code, _ := h.call(third, "POST", "io.atcr.hold.initiateUpload", "",
		map[string]any{"digest": digest.FromString("x")}); code != http.StatusOK || len(h.layers()) != 2 {
		t.Errorf("after a start: %d, %d layers", code, len(h.layers()))
	}
}

// checkRepo makes sure of the repository, beside the server.
func checkRepo(t *testing.T, cfg hold.Config) {
	t.Helper()
	o, err := datadir.ReadRepo(t.Context(), dataDir(t, cfg))
	must(t, err)
	defer o.Close()
	var out bytes.Buffer
	must(t, repo.ExportCAR(t.Context(), o.Repo, &out, nil))
	_, err = repo.VerifyCAR(t.Context(), repo.Source{Reader: &out, DID: o.Identity.DID.String(), Key: o.Repo.PublicKey()})
	must(t, err)
}

// importWhilePushing imports again and again while pushes run: none is refused, no layer is recorded twice or not at all.
func importWhilePushing(t *testing.T, in func(*hold.Config)) {
	h, alice, config, layer := pushed(t, in)
	h.run()
	const pushes, imports = 12, 4
	var all sync.WaitGroup
	for g := range 2 {
		all.Go(func() {
			for i := range pushes {
				repository := fmt.Sprintf("app%d-%d", g, i)
				d, _ := alice.putManifest(t, h, repository, config, layer, h.push(alice, data(uint64(100*g+i+7), 100)))
				if code, out := h.notify(alice, "push", repository, d); code != 200 {
					t.Errorf("push %s: %d %v", repository, code, out)
				}
			}
		})
	}
	for i := range imports {
		records := map[string]string{}
		for k := range 400 { // more than a #commit holds
			records[fmt.Sprintf("%s/3import%d-%d", atcr.NSIDStats, i,
				k)] = fmt.Sprintf(`{"$type":%q,"ownerDid":%q,"repository":"x","pullCount":1,"pushCount":1,"updatedAt":"2026-01-01T00:00:00.000Z"}`, atcr.NSIDStats, alice.did)
		}
		if got := importInto(t, h.cfg, in, car(t, records)); got.Created != 400 {
			t.Errorf("import %d: %+v", i, got)
		}
	}
	all.Wait()
	seen := map[string]bool{}
	for _, l := range h.layers() {
		if key := l.Manifest + " " + l.Digest; seen[key] {
			t.Errorf("recorded twice: %s", key)
		} else {
			seen[key] = true
		}
	}
	if want := 2 * pushes * 3; len(seen) != want {
		t.Errorf("%d layer records, want %d", len(seen), want)
	}
	checkRepo(t, h.cfg)
}

// beforeTheFirstStart imports into a hold that was never started.
func beforeTheFirstStart(t *testing.T, in func(*hold.Config)) {
	n := newNetwork(t)
	cfg := hold.Config{Dir: t.TempDir(), PublicURL: "http://localhost:1", TestMode: true, OwnerDID: n.user("owner").did, Directory: n.dir}
	in(&cfg)
	if _, err := datadir.ReadRepo(t.Context(), dataDir(t, cfg)); err == nil || !strings.Contains(err.Error(), "no identity") {
		t.Errorf("nothing to read: %v", err)
	}
	member, crew := crewRecord(n.user("bob").did)
	if got := importInto(t, cfg, in, car(t, map[string]string{member: crew})); got.Created != 1 {
		t.Errorf("imported %+v", got)
	}
	checkRepo(t, cfg)
}

// moveFiles gives a database to a hold that had files: all goes on there, and what was acknowledged in the files is there.
func moveFiles(t *testing.T, in, other func(*hold.Config)) {
	realtest.OnlySQLite(t) // which has files to begin with
	h, alice, config, layer := pushed(t)
	first, _ := alice.putManifest(t, h, "app", config, layer)
	if code, out := h.notify(alice, "push", "app", first); code != 200 {
		t.Fatalf("push: %d %v", code, out)
	}
	leased := h.push(alice, data(7, 700)) // no manifest names it yet
	before, did := len(h.layers()), h.DID()
	h.stop()
	stale := t.TempDir()
	must(t, os.CopyFS(stale, os.DirFS(h.cfg.Dir)))
	for _, key := range []string{"keys/signing.key", "link.key", "blobs/atcr/uploads/.key"} { // CopyFS keeps no modes
		must(t, os.Chmod(filepath.Join(stale, key), 0o600))
	}

	in(&h.cfg)
	dir, err := h.cfg.DataDir()
	must(t, err)
	if _, err := datadir.ReadRepo(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "start the hold once") {
		t.Errorf("read before the first start: %v", err)
	}
	if _, err := datadir.OpenRepo(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "start the hold once") {
		t.Errorf("written before the first start: %v", err)
	}
	h.start()
	if h.DID() != did || len(h.layers()) != before {
		t.Errorf("%s has %d layers, was %s with %d", h.DID(), len(h.layers()), did, before)
	}
	for _, file := range []string{"repo.db", "hold.db"} {
		_, gone := os.Stat(filepath.Join(h.cfg.Dir, file))
		_, kept := os.Stat(filepath.Join(h.cfg.Dir, file+".moved"))
		if !os.IsNotExist(gone) || kept != nil {
			t.Errorf("%s: %v; moved: %v", file, gone, kept)
		}
	}
	second, _ := alice.putManifest(t, h, "app", config, leased)
	if code, out := h.notify(alice, "push", "app", second); code != 200 || out["layersCreated"] != 2.0 {
		t.Errorf("push of what was uploaded before: %d %v", code, out)
	}
	checkRepo(t, h.cfg)
	h.stop()
	h.start() // nothing is left to move
	h.stop()

	// A folder that has gone on by itself, with the database that has, too: nobody can say which counts.
	file, err := sqlite.Open(t.Context(), filepath.Join(stale, "hold.db"))
	must(t, err)
	_, err = file.Write().ExecContext(t.Context(), `update hold_lease set expires = expires + 1`)
	must(t, errors.Join(err, file.Close()))
	now := h.cfg.Dir
	h.cfg.Dir = stale
	_, err = hold.New(t.Context(), h.cfg)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(stale, "hold.db")) || !strings.Contains(err.Error(), "of schema ") {
		t.Errorf("rows on both sides: %v", err)
	}
	other(&h.cfg)
	h.start()
	h.stop()
	h.cfg.Dir = now
	in(&h.cfg)
	h.start()
	h.stop() // before the databases are closed
}

// twoServers: the second hold on a database is refused, and told who the first is.
func twoServers(t *testing.T, in func(*hold.Config)) {
	h := newHold(t, newNetwork(t), in)
	cfg := h.cfg
	cfg.Dir = t.TempDir()
	in(&cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // in place of the 30 s that it waits
	defer cancel()
	_, err := hold.New(ctx, cfg)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("atcr hold, process %d on ", os.Getpid())) {
		t.Errorf("the second: %v", err)
	}
	checkRepo(t, h.cfg) // verbs go on
	h.stop()
	h.start() // the lock is free again
	h.stop()
}
