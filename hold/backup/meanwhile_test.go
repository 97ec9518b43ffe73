package backup_test

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/sqlstore"
	"github.com/atcr-dev/atcr/storage/filestore"
)

// Backups while layers are pushed and deleted: every set is consistent, whatever was in between.
func TestBesidePushes(t *testing.T) {
	h, to := makeHold(t, 3), folder(t)
	key, o := keyPair(t)
	store, err := sqlstore.Open(t.Context(), filepath.Join(h.cfg.Dir, "repo.db"))
	must(t, err)
	defer store.Close()
	off, err := datadir.ReadRepo(t.Context(), dataDir(t, h.cfg))
	must(t, err)
	r, err := repo.Open(t.Context(), store, repo.Options{DID: off.Identity.DID.String(), Key: off.Identity.Key})
	must(t, err)
	must(t, off.Close())
	defer r.Close()
	blobs, err := filestore.Open(filepath.Join(h.cfg.Dir, "blobs"), nil)
	must(t, err)
	defer blobs.Close()

	stop := make(chan struct{})
	var wg sync.WaitGroup
	var pushed, deleted atomic.Int64
	for w := range 3 {
		wg.Go(func() {
			for n := 1000 * (w + 1); ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				d, rkey := pushLayer(t, r, blobs, n)
				pushed.Add(1)
				if n%3 == 0 { // the record first, then the blob
					_, err := r.Apply(t.Context(), []repo.Write{{Action: repo.Delete, Collection: atcr.NSIDLayer, RKey: rkey}})
					if err == nil {
						err = blobs.Delete(t.Context(), d)
					}
					if err != nil {
						t.Error(err)
						return
					}
					deleted.Add(1)
				}
			}
		})
	}
	p := h.parts()
	var names []string
	for range 8 {
		before := pushed.Load()
		m, err := backup.Create(t.Context(), to, p, o)
		if err != nil {
			t.Error(err)
			break
		}
		if m.Layers.Missing != 0 {
			t.Errorf("set %s lacks %d layers", m.Name, m.Layers.Missing)
		}
		names = append(names, m.Name)
		for pushed.Load() < before+5 && !t.Failed() {
			time.Sleep(time.Millisecond) // until there was something to be beside of
		}
	}
	close(stop)
	wg.Wait()
	if deleted.Load() == 0 {
		t.Error("nothing was deleted")
	}
	for _, name := range names {
		if _, err := backup.Verify(t.Context(), to, name, backup.VerifyOptions{Trust: h.trust(), Keys: []age.Identity{key}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Logf("%d pushed, %d deleted", pushed.Load(), deleted.Load())
}

// A layer goes, record and blob, between the reading of the repository and the copying: it is read again, as often as that happens.
func TestDeletedMeanwhile(t *testing.T) {
	for _, times := range []int{1, 10} {
		t.Run(strconv.Itoa(times), func(t *testing.T) { testDeletedMeanwhile(t, times) })
	}
}

func testDeletedMeanwhile(t *testing.T, times int) {
	h, to := makeHold(t, 3), folder(t)
	_, o := keyPair(t)
	p := h.parts()
	w, err := datadir.OpenRepo(t.Context(), dataDir(t, h.cfg))
	must(t, err)
	defer w.Close()
	blobs, err := filestore.Open(filepath.Join(h.cfg.Dir, "blobs"), nil)
	must(t, err)
	defer blobs.Close()
	fired := 0
	remove := func() {
		fired++
		for rec, err := range w.Repo.List(t.Context(), atcr.NSIDLayer, "", false) {
			must(t, err)
			js, err := rec.JSON()
			must(t, err)
			var l atcr.Layer
			must(t, json.Unmarshal(js, &l))
			_, err = w.Repo.Apply(t.Context(), []repo.Write{{Action: repo.Delete, Collection: atcr.NSIDLayer, RKey: rec.RKey}})
			must(t, err)
			must(t, blobs.Delete(t.Context(), digest.Digest(l.Digest)))
			break
		}
		pushLayer(t, w.Repo, blobs, 100+fired)
	}
	ctx := crashpoint.With(t.Context(), func(point string) error {
		if point == crashpoint.RepositoryRead && fired < times {
			remove()
		}
		return nil
	})
	m, err := backup.Create(ctx, to, p, o)
	must(t, err)
	if fired != times || m.Layers.Missing != 0 || m.Layers.Count != 3 {
		t.Errorf("fired %d, %+v", fired, m.Layers)
	}
	if _, err := backup.Verify(t.Context(), to, "", backup.VerifyOptions{Trust: h.trust()}); err != nil {
		t.Error(err)
	}
}

// TestRotatedMeanwhile: a backup during which the signing key is rotated is refused, since its identity would not verify its
// repository; the next one is whole.
func TestRotatedMeanwhile(t *testing.T) {
	h, to := makeHold(t, 2), folder(t)
	key, o := keyPair(t)
	s, err := hold.New(t.Context(), h.cfg)
	must(t, err)
	for at, want := range map[string]string{
		crashpoint.RepositoryExported: "a key that was changed meanwhile", crashpoint.RepositoryRead: "its key was changed meanwhile",
	} {
		ctx := crashpoint.With(t.Context(), func(point string) error {
			if point == at {
				_, err := s.RotateSigningKey(t.Context(), "")
				must(t, err)
			}
			return nil
		})
		if _, err := backup.Create(ctx, to, s.Contents(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("rotated at %s: %v", at, err)
		}
	}
	sets, err := backup.List(t.Context(), to)
	must(t, err)
	for _, set := range sets {
		if set.Whole() {
			t.Errorf("set %s", set.Name)
		}
	}
	m, err := backup.Create(t.Context(), to, s.Contents(), o)
	must(t, err)
	must(t, s.Close())
	did, records, seq := state(t, h.cfg)
	cfg := config(filepath.Join(t.TempDir(), "new"))
	_, err = backup.Restore(t.Context(), to, m.Name, dataDir(t, cfg), backup.RestoreOptions{Trust: h.trust(), Keys: []age.Identity{key}})
	must(t, err)
	same(t, cfg, did, records, seq, h.layers)
}
