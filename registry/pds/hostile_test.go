package pds_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/hostile"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
	"github.com/atcr-dev/atcr/sqldb"
)

const listRecords = "com.atproto.repo.listRecords"

// siege is a backend among attackers.
type siege struct {
	*hostile.Network
	t       *testing.T
	backend *pds.Backend
	db      *sqldb.DB
	answers *httpx.Answers
	clock   *clock
}

func newSiege(t *testing.T, budget httpx.AnswersOptions, set ...func(*pds.Options)) *siege {
	t.Helper()
	s := &siege{Network: hostile.Start(t, hostile.Options{}), t: t, clock: &clock{}}
	dir := t.TempDir()
	budget.Dir = dir
	s.answers = httpx.NewAnswers(budget)
	client := s.answers.Client(httpx.NewClient(httpx.ClientOptions{Guard: httpx.Guard{Loopback: true}, Timeout: -1}))
	s.db = realtest.OpenDatabase(t, filepath.Join(dir, "appview.db"))
	o := pds.Options{
		DB: s.db, HTTP: client, Directory: identity.NewResolver(identity.ResolverOptions{PLCURL: s.URL, TestMode: true, HTTP: client}),
		DefaultHold: s.Hold, Clock: s.clock.now, Log: quiet(),
	}
	for _, f := range set {
		f(&o)
	}
	var err error
	s.backend, err = pds.New(t.Context(), o)
	must(t, err)
	t.Cleanup(func() {
		must(t, s.backend.Close())
		client.CloseIdleConnections()
		must(t, realtest.WaitFor(time.Minute, func() error { // what nobody waits for may be about to end
			if memory, files := s.answers.Used(); memory != 0 || files != 0 {
				return fmt.Errorf("%d bytes of memory and %d of files were not given back", memory, files)
			}
			return nil
		}))
		must(t, s.db.Close())
	})
	return s
}

func (s *siege) repo(o hostile.Owner) registry.Repository {
	s.t.Helper()
	r, err := s.backend.Repository(s.t.Context(), registry.Actor{}, o.Name()+"/app")
	must(s.t, err)
	return r
}

func (s *siege) tags(ctx context.Context, o hostile.Owner) ([]string, error) {
	return collectTags(ctx, s.repo(o))
}

// pull pulls an honest owner's image whole.
func (s *siege) pull(ctx context.Context, o hostile.Owner, img hostile.Image) error {
	r := s.repo(o)
	m, err := r.Manifest(ctx, registry.Ref{Tag: img.Tag})
	if err != nil || m.Digest.String() != img.Digest {
		return fmt.Errorf("manifest %s: %w", m.Digest, err)
	}
	for d := range img.Blobs {
		if _, err := r.Blob(ctx, digest.Digest(d)); err != nil {
			return fmt.Errorf("blob %s: %w", d, err)
		}
	}
	return nil
}

func (s *siege) count(table string, o hostile.Owner) (n int) {
	s.t.Helper()
	must(s.t, s.db.Read().QueryRow(`select count(*) from `+table+` where owner = $1`, o.DID).Scan(&n))
	return n
}

// A repository that never ends, of whatever sort, is refused by the limit that it comes over, which the answer names; nothing of it is
// kept, nobody lists it again for an hour, and then its owner may have mended it.
func TestTooManyRecords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		kind    hostile.Kind
		options func(*pds.Options)
		blob    bool // a blob is asked for, which has layers kept
		key     string
	}{
		{"tags by number", hostile.Endless, func(o *pds.Options) { o.OwnerRecords = 950 }, false, "pds.owner_records, 950"},
		{"tags by bytes", hostile.Endless, func(o *pds.Options) { o.OwnerBytes = 1 << 20 }, false, "pds.owner_bytes, 1048576"},
		{"manifests", hostile.Fill, func(o *pds.Options) { o.OwnerRecords = 50 }, false, "pds.owner_records, 50"},
		{"layers", hostile.Link, func(o *pds.Options) { o.OwnerBytes = 2000 }, true, "pds.owner_bytes, 2000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSiege(t, httpx.AnswersOptions{}, c.options)
			o := s.Add(hostile.Party{PDS: c.kind})
			ask := func() error {
				if c.blob {
					_, err := s.repo(o).Blob(t.Context(), digest.FromString("of nobody"))
					return err
				}
				_, err := s.tags(t.Context(), o)
				return err
			}
			e := wantKind(t, ask(), registry.ErrDenied)
			if !strings.Contains(e.Message, o.DID) || !strings.Contains(e.Message, c.key) {
				t.Errorf("it names not owner and limit: %s", e.Message)
			}
			for _, table := range []string{"pds_manifest", "pds_tag", "pds_layer"} {
				if n := s.count(table, o); n != 0 {
					t.Errorf("%d rows of %s are kept", n, table)
				}
			}
			asked := s.Calls(o.DID, listRecords)
			wantKind(t, ask(), registry.ErrDenied)
			if s.Calls(o.DID, listRecords) != asked {
				t.Error("it was listed again")
			}
			s.Become(o.DID, hostile.Honest, hostile.Honest)
			s.clock.advance(61 * time.Minute)
			if err := ask(); errors.Is(err, registry.ErrDenied) && c.kind != hostile.Link {
				t.Errorf("mended: %v", err)
			}
		})
	}
}

// A listing ends when nobody waits for it, and the next one goes on where it stopped.
func TestListingThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	s := newSiege(t, httpx.AnswersOptions{})
	o := s.Add(hostile.Party{PDS: hostile.Slow})
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := s.tags(ctx, o)
		gone <- err
	}()
	pages := func(n int) {
		t.Helper()
		must(t, realtest.WaitFor(time.Minute, func() error {
			if k := s.Calls(o.DID, listRecords); k < n {
				return fmt.Errorf("%d pages", k)
			}
			return nil
		}))
	}
	pages(3)
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	var cursor string
	must(t, s.backend.AwaitOwner(t.Context(), o.DID)) // what ran has ended, so that the row stays as it is
	must(t, s.db.Read().QueryRow(`select list_cursor from pds_owner where did = $1`, o.DID).Scan(&cursor))
	if cursor == "" {
		t.Fatal("it forgot how far it came")
	}
	again, leave := context.WithTimeout(t.Context(), 5*time.Second)
	defer leave()
	_, _ = s.tags(again, o)
	var later string
	must(t, s.db.Read().QueryRow(`select list_cursor from pds_owner where did = $1`, o.DID).Scan(&later))
	if len(later) < len(cursor) || later == "" {
		t.Errorf("it began anew: %s, after %s", later, cursor)
	}
	if _, ok := s.stale(o); ok {
		t.Error("that nobody waited says nothing of the PDS")
	}
}

// stale tells how an owner is answered whose PDS is said to be silent.
func (s *siege) stale(o hostile.Owner) (error, bool) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.tags(ctx, o)
	return err, errors.Is(err, registry.ErrUnavailable) && ctx.Err() == nil
}

// Copies of owners take no more than all may; who was asked for longest ago goes first, whole, and is listed again when asked for.
func TestCopiesMakeRoom(t *testing.T) {
	t.Parallel()
	s := newSiege(t, httpx.AnswersOptions{}, func(o *pds.Options) { o.CopyBytes = 200_000 })
	var owners []hostile.Owner
	for range 10 { // of 25 images: about 50 KB each
		owners = append(owners, s.Add(hostile.Party{Images: 25, Layers: 1}))
	}
	for _, o := range owners {
		s.clock.advance(time.Minute)
		if tags, err := s.tags(t.Context(), o); err != nil || len(tags) != 25 {
			t.Fatal(len(tags), err)
		}
		var taken int64
		must(t, s.db.Read().QueryRow(`select cast(sum(bytes + list_bytes + layer_bytes) as bigint) from pds_owner`).Scan(&taken))
		if taken > 250_000 {
			t.Errorf("%d bytes are kept", taken)
		}
	}
	if n := s.count("pds_manifest", owners[0]) + s.count("pds_tag", owners[0]); n != 0 {
		t.Errorf("the oldest has %d rows", n)
	}
	if n := s.count("pds_manifest", owners[9]); n != 25 {
		t.Errorf("the newest has %d rows", n)
	}
	must(t, s.pull(t.Context(), owners[0], owners[0].Images[3]))
}

// While ten owners without end are listed and pulled from, others' first pulls go on. How long they take says little here, where the
// attackers and their servers have the same processors: e2e's TestUnderAttack measures that.
func TestFirstPullsAmongAttackers(t *testing.T) {
	t.Parallel()
	s := newSiege(t, httpx.AnswersOptions{})
	first := func() {
		t.Helper()
		o := s.Add(hostile.Party{Images: 60, Layers: 160}) // a page of more than a MiB
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		began := time.Now()
		if err := s.pull(ctx, o, o.Images[3]); err != nil {
			t.Error(err)
		}
		t.Logf("first pull after %s", time.Since(began).Round(time.Millisecond))
	}
	first() // alone
	ctx, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer leave()
	kinds := []hostile.Kind{hostile.Fill, hostile.Endless, hostile.Hog, hostile.Drip, hostile.Flood, hostile.Tarpit, hostile.Slow, hostile.Huge}
	var bad []hostile.Owner
	for i := range 10 {
		o := s.Add(hostile.Party{PDS: kinds[i%len(kinds)]})
		bad = append(bad, o)
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if i%2 == 0 {
					_, _ = s.tags(ctx, o)
				} else {
					_, _ = s.repo(o).Blob(ctx, digest.FromString("x"))
				}
				select {
				case <-ctx.Done():
				case <-time.After(200 * time.Millisecond):
				}
			}
		})
	}
	must(t, realtest.WaitFor(time.Minute, func() error {
		for _, o := range bad {
			if s.Calls(o.DID, "") == 0 {
				return fmt.Errorf("%s was not asked yet", o.DID)
			}
		}
		return nil
	}))
	first()
}

// Layers of records are kept once a blob was asked for: those of a manifest that was served by its bytes, without asking anybody; for
// others the records are listed once more, and from then on with their layers.
func TestLayersWhenAsked(t *testing.T) {
	t.Parallel()
	s := newSiege(t, httpx.AnswersOptions{})
	o := s.Add(hostile.Party{Images: 3, Layers: 2})
	r := s.repo(o)
	if _, err := s.tags(t.Context(), o); err != nil || s.count("pds_layer", o) != 0 {
		t.Errorf("%v; layers were kept unasked: %d", err, s.count("pds_layer", o))
	}
	_, err := r.Manifest(t.Context(), registry.Ref{Tag: "v0"})
	must(t, err)
	asked := s.Calls(o.DID, listRecords)
	for d := range o.Images[0].Blobs {
		b, err := r.Blob(t.Context(), digest.Digest(d))
		if err != nil || b.Size != int64(len(o.Images[0].Blobs[d])) {
			t.Errorf("%v, %d bytes", err, b.Size)
		}
	}
	if n := s.count("pds_layer", o); n != 3 || s.Calls(o.DID, listRecords) != asked {
		t.Errorf("%d layers are kept; the PDS was asked %d times", n, s.Calls(o.DID, listRecords)-asked)
	}
	for d := range o.Images[1].Blobs {
		_, err := r.Blob(t.Context(), digest.Digest(d))
		must(t, err)
	}
	if n := s.count("pds_layer", o); n != 9 {
		t.Errorf("%d layers are kept", n)
	}
	asked = s.Calls(o.DID, listRecords)
	_, err = r.Blob(t.Context(), digest.FromString("of nobody"))
	wantKind(t, err, registry.ErrBlobUnknown)
	if s.Calls(o.DID, listRecords) != asked {
		t.Error("a blob that is not there is a listing each time")
	}
}

// An answer that stalls, trickles or never ends is over within its window, whichever it is: lists, records, manifests, proofs, the
// commit, the hold's rights, and the identity's document. What it took is given back, and the caller is told in time
// what is wrong: 503, or a 4xx for what is larger than anybody takes.
func TestAnswersThatStall(t *testing.T) {
	t.Parallel()
	s := newSiege(t, httpx.AnswersOptions{Window: 200 * time.Millisecond, Memory: 4 << 20})
	type ask func(context.Context, hostile.Owner) error
	list := func(ctx context.Context, o hostile.Owner) error { _, err := s.tags(ctx, o); return err }
	pull := func(ctx context.Context, o hostile.Owner) error {
		_, err := s.repo(o).Manifest(ctx, registry.Ref{Tag: "v0"})
		return err
	}
	for _, c := range []struct {
		name, method string
		hold         bool
		ask          ask
	}{
		{"list", "", false, list},
		{"commit", "com.atproto.sync.getLatestCommit", false, list},
		{"manifest", "com.atproto.sync.getBlob", false, pull},
		{"document", "did", false, list},
		{"rights", "com.atproto.repo.getRecord", true, pull},
		{"blob", "", true, func(ctx context.Context, o hostile.Owner) error {
			if err := pull(ctx, o); err != nil {
				return err
			}
			for d := range o.Images[0].Blobs {
				_, err := s.repo(o).Blob(ctx, digest.Digest(d))
				return err
			}
			return nil
		}},
	} {
		for _, kind := range []hostile.Kind{hostile.Drip, hostile.Hog, hostile.Trickle, hostile.Flood, hostile.Huge} {
			p := hostile.Party{PDS: kind, Method: c.method, Images: 1, Layers: 1}
			if c.hold {
				p.PDS, p.Hold = hostile.Honest, kind
			}
			o := s.Add(p)
			t.Run(c.name+" "+o.DID[8:16], func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
				defer cancel()
				began := time.Now()
				err := c.ask(ctx, o)
				t.Log(time.Since(began).Round(time.Millisecond), err)
				if e := (*registry.Error)(nil); !errors.As(err, &e) || ctx.Err() != nil || e.Status == http.StatusInternalServerError {
					t.Errorf("%v", err)
				}
			})
		}
	}
	o := s.Add(hostile.Party{PDS: hostile.Drip, Method: "com.atproto.sync.getRecord", Images: 1})
	must(t, pull(t.Context(), o)) // a proof that doesn't come is none, under sampled
	good := s.Add(hostile.Party{Images: 1, Layers: 1})
	must(t, s.pull(t.Context(), good, good.Images[0]))
}

// A failing PDS is refused in one line each; http.DefaultClient, too, is within a budget, of its own.
func TestBudgetByDefault(t *testing.T) {
	t.Parallel()
	s := newSiege(t, httpx.AnswersOptions{}, func(o *pds.Options) { o.HTTP = &http.Client{} })
	o := s.Add(hostile.Party{Images: 1})
	must(t, s.pull(t.Context(), o, o.Images[0]))
}
