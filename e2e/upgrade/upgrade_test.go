package upgrade

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/sqldb"
	"github.com/atcr-dev/atcr/sqldb/postgres"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

const settleLimit = 2 * time.Minute

// TestFoldersOf461b515 opens what both services of commit 461b515 left when they were killed: uploads with acknowledged parts at
// the AppView and at the holds, leases, pushes that the hold was not told of, sessions, a copy of each owner's records. One
// hold has a did:plc, one a did:web, one keeps its repository in PostgreSQL.
func TestFoldersOf461b515(t *testing.T) { testFoldersOf461b515(t, false) }

// TestFoldersOf461b515Moved is the same with a PostgreSQL database for each service: what is in the folders' SQLite files is moved
// there.
func TestFoldersOf461b515Moved(t *testing.T) { testFoldersOf461b515(t, true) }

func testFoldersOf461b515(t *testing.T, moved bool) {
	s, advance := unpacked(t, "461b515")
	server := realtest.Postgres(t)
	for _, u := range s.facts.Users {
		c, address, files := s.holdConfig(u), "", []string(nil)
		switch {
		case u.Hold.Name == "postgres":
			address, files = s.restored(server, filepath.Join("testdata", "461b515", "hold-postgres.sql")), []string{"hold.db"}
		case moved:
			address, files = server.Database(t), []string{"hold.db", "repo.db"}
		}
		if address != "" {
			c.DB = s.beside(postgres.Open(t.Context(), address))
		}
		h := s.openHold(u, c)
		s.wantMoved(c.Dir, files...)
		t.Cleanup(func() { closed(t, h) })
		if h.DID() != u.Hold.DID {
			t.Errorf("hold %s is %s now, was %s", u.Hold.Name, h.DID(), u.Hold.DID)
		}
		if cid, rev := s.head(u); cid != u.Hold.Head || rev != u.Hold.Rev {
			t.Errorf("hold %s: the repository is at %s, %s; was at %s, %s", u.Hold.Name, cid, rev, u.Hold.Head, u.Hold.Rev)
		}
		if n := s.count(s.holdDB(u, address), "select count(*) from hold_lease where did = $1 and digest = $2", u.DID, u.Leased); n != 1 {
			t.Errorf("hold %s: %d leases on %s, want 1", u.Hold.Name, n, u.Leased)
		}
	}
	s.movePDS()
	s.silent.Store(true)
	c, db := s.appConfig(), (*sqldb.DB)(nil)
	if moved {
		address := server.Database(t)
		c.DB, db = s.beside(postgres.Open(t.Context(), address)), s.beside(postgres.Open(t.Context(), address))
	}
	s.openApp(t.Context(), c)
	if moved {
		s.wantMoved(c.Dir, "appview.db")
	} else {
		db = s.appDB()
	}
	t.Cleanup(func() { closed(t, s.app) })
	ctx, stop := context.WithCancel(t.Context())
	run := make(chan error, 1)
	go func() { run <- s.app.Run(ctx) }()
	defer func() {
		stop()
		if err := <-run; err != nil {
			t.Error(err)
		}
	}()

	open := len(s.facts.Users) + 1
	s.until("every intent was tried, and is kept while the PDS is silent", func() error {
		if n := s.count(db, "select count(*) from pds_intent where tries > 0"); n != open {
			return fmt.Errorf("%d of %d intents", n, open)
		}
		return nil
	})
	for _, u := range s.facts.Users {
		s.pull(u, "app:v1", u.Pushed)
	}

	s.silent.Store(false)
	advance(time.Hour)
	s.until("every intent is settled", func() error {
		if n := s.count(db, "select count(*) from pds_intent"); n != 0 {
			return fmt.Errorf("%d intents are open", n)
		}
		return nil
	})
	for _, u := range s.facts.Users {
		s.pull(u, "half:v1", u.Half)
		for _, digest := range []string{u.Pushed, u.Half} {
			if n := s.layersOf(u, digest); n != 3 {
				t.Errorf("hold %s has %d layer records of %s, want 3", u.Hold.Name, n, digest)
			}
		}
		if _, err := remote.Head(s.ref(u, "never:v1"), s.transport()); err == nil {
			t.Errorf("%s/never:v1 is there", u.Handle)
		}
		s.resume(u)
	}
	if n := s.signedIn.Load(); n != 0 {
		t.Errorf("the AppView signed in %d times: the sessions were not read", n)
	}
	for _, u := range s.facts.Users {
		s.resumeAtHold(u)
	}
}

// unpacked is a stand on the archives of a version, at the time when they were made; advance puts its clock forward.
func unpacked(t *testing.T, version string) (_ *stand, advance func(time.Duration)) {
	t.Helper()
	from, dir := filepath.Join("testdata", version), t.TempDir()
	archives, err := filepath.Glob(filepath.Join(from, "*.tar.gz"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no archives in %s: %v", from, err)
	}
	for _, a := range archives {
		if err := untar(a, dir); err != nil {
			t.Fatalf("%s: %v", a, err)
		}
	}
	var f facts
	b, err := os.ReadFile(filepath.Join(from, "facts.json"))
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	var ahead atomic.Int64
	began := time.Now()
	clock := func() time.Time { return f.Made.Add(time.Since(began) + time.Duration(ahead.Load())) }
	return newStand(t, dir, f, clock), func(d time.Duration) { ahead.Add(int64(d)) }
}

func untar(archive, dir string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(h.Name) {
			return fmt.Errorf("%q is outside", h.Name)
		}
		path := filepath.Join(dir, h.Name)
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(path, h.FileInfo().Mode().Perm())
		} else {
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, b, h.FileInfo().Mode().Perm())
			}
		}
		if err != nil {
			return err
		}
	}
}

func closed(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// restored is the address of a PostgreSQL database with the rows of a dump, which has them in the schema "before".
func (s *stand) restored(server *realtest.PostgresServer, dump string) string {
	s.t.Helper()
	statements, err := os.ReadFile(dump)
	if err != nil {
		s.t.Fatal(err)
	}
	address := server.Database(s.t)
	db, err := postgres.Open(s.t.Context(), address)
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = db.Write().ExecContext(s.t.Context(), string(statements))
	if err := errors.Join(err, db.Close()); err != nil {
		s.t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		s.t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", "before")
	u.RawQuery = q.Encode()
	return u.String()
}

// holdDB is where a hold has its leases: in its folder, or in the database that it was given.
func (s *stand) holdDB(u *user, address string) *sqldb.DB {
	s.t.Helper()
	file := filepath.Join(s.dir, "hold-"+u.Hold.Name, "hold.db")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) && address != "" {
		return s.beside(postgres.Open(s.t.Context(), address))
	}
	return s.beside(sqlite.Open(s.t.Context(), file))
}

func (s *stand) appDB() *sqldb.DB {
	s.t.Helper()
	return s.beside(sqlite.Open(s.t.Context(), s.appFile()))
}

func (s *stand) appFile() string { return filepath.Join(s.dir, "appview", "appview.db") }

// wantMoved checks that the rows of files went to a database: they have another name.
func (s *stand) wantMoved(dir string, files ...string) {
	s.t.Helper()
	for _, name := range files {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			s.t.Errorf("%s is there still: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, name+".moved")); err != nil {
			s.t.Error(err)
		}
	}
}

func (s *stand) beside(db *sqldb.DB, err error) *sqldb.DB {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { closed(s.t, db) })
	return db
}

func (s *stand) count(db *sqldb.DB, query string, args ...any) int {
	s.t.Helper()
	var n int
	if err := db.Read().QueryRowContext(s.t.Context(), query, args...).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// movePDS writes the port that the PDS has today into what the AppView remembers of it: a session is for the address it was
// made at. Everything else follows DID documents.
func (s *stand) movePDS() {
	s.t.Helper()
	db, err := sqlite.Open(s.t.Context(), s.appFile())
	if err != nil {
		s.t.Fatal(err)
	}
	defer closed(s.t, db)
	for _, statement := range []string{"update auth_session set pds = $1", "update pds_name set endpoint = $1"} {
		if _, err := db.Write().ExecContext(s.t.Context(), statement, s.pdsURL); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *stand) until(what string, f func() error) {
	s.t.Helper()
	if err := realtest.WaitFor(settleLimit, f); err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

func (s *stand) transport() remote.Option { return remote.WithTransport(s.client.Transport) }

// pull pulls an image without signing in; go-containerregistry checks every digest.
func (s *stand) pull(u *user, ref, digest string) {
	s.t.Helper()
	img, err := remote.Image(s.ref(u, ref), s.transport(), remote.WithContext(s.t.Context()))
	if err != nil {
		s.t.Errorf("pull %s of %s: %v", ref, u.Handle, err)
		return
	}
	if d, err := img.Digest(); err != nil || d.String() != digest {
		s.t.Errorf("%s of %s is %s, %v; want %s", ref, u.Handle, d, err, digest)
	}
	if err := readAll(img); err != nil {
		s.t.Errorf("pull %s of %s: %v", ref, u.Handle, err)
	}
}

func readAll(img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	_, err = img.RawConfigFile()
	return err
}

// layersOf counts a hold's layer records of a manifest.
func (s *stand) layersOf(u *user, digest string) int {
	s.t.Helper()
	query := url.Values{"repo": {u.Hold.DID}, "collection": {"io.atcr.hold.layer"}, "limit": {"100"}}
	var page struct {
		Records []struct {
			Value struct{ Manifest string }
		}
	}
	if _, err := s.call(s.request(http.MethodGet, u.Hold.url()+"/xrpc/com.atproto.repo.listRecords?"+query.Encode(), nil), &page); err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for _, r := range page.Records {
		if strings.HasSuffix(r.Value.Manifest, strings.TrimPrefix(digest, "sha256:")) {
			n++
		}
	}
	return n
}

// resume ends the upload at the AppView from where it was acknowledged.
func (s *stand) resume(u *user) {
	s.t.Helper()
	resp, err := s.registry(u, http.MethodGet, u.Resume, nil)
	if err != nil {
		s.t.Error(err)
		return
	}
	if got, want := resp.Header.Get("Range"), fmt.Sprintf("0-%d", u.Resumed-1); got != want {
		s.t.Errorf("the upload of %s is at %q, was at %q", u.Handle, got, want)
	}
	all := content("resumed "+u.Handle, resumedSize)
	put := u.Resume + "?" + url.Values{"digest": {digestOf(all).String()}}.Encode()
	if _, err := s.registry(u, http.MethodPut, put, all[u.Resumed:]); err != nil {
		s.t.Error(err)
		return
	}
	resp, err = s.registry(u, http.MethodHead, "/v2/"+u.Handle+"/app/blobs/"+digestOf(all).String(), nil)
	if err != nil || resp.ContentLength != resumedSize {
		s.t.Errorf("the blob of %s's upload: %v, %v", u.Handle, resp, err)
	}
}

// resumeAtHold ends the upload at the hold: part 2 was missing, part 3 came before it.
func (s *stand) resumeAtHold(u *user) {
	s.t.Helper()
	ctx := s.t.Context()
	c := s.holdClient(u)
	all := content("parts "+u.Handle, 3*partSize)
	parts := func(want ...int) []holdclient.Part {
		state, err := c.GetUpload(ctx, u.Hold.Upload)
		if err != nil {
			s.t.Errorf("hold %s: %v", u.Hold.Name, err)
		}
		var numbers []int
		for _, p := range state.Parts {
			numbers = append(numbers, p.Number)
		}
		if !slices.Equal(numbers, want) {
			s.t.Errorf("hold %s: parts %v are in place, want %v", u.Hold.Name, numbers, want)
		}
		return state.Parts
	}
	parts(1)
	if _, err := c.UploadPart(ctx, u.Hold.Upload, 2, partSize, bytes.NewReader(all[partSize:2*partSize])); err != nil {
		s.t.Errorf("hold %s: part 2: %v", u.Hold.Name, err)
		return
	}
	if err := c.CompleteUpload(ctx, u.Hold.Upload, digestOf(all), parts(1, 2, 3)); err != nil {
		s.t.Errorf("hold %s: %v", u.Hold.Name, err)
		return
	}
	if size, err := c.StatBlob(ctx, u.DID, digestOf(all)); err != nil || size != int64(len(all)) {
		s.t.Errorf("hold %s: the uploaded blob: %d bytes, %v", u.Hold.Name, size, err)
	}
}
