package backup_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/datadir"
	identitybackup "github.com/atcr-dev/atcr/identity/backup"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/repo"
)

func TestCreateRestore(t *testing.T) {
	h, to := makeHold(t, 5), folder(t)
	key, o := keyPair(t)
	o.Config = []byte("version: x\n")
	m := h.create(to, o)
	if m.Layers.Count != 5 || m.Layers.Copied != 5 || m.Layers.Missing != 0 || !m.HasIdentity() {
		t.Fatalf("manifest %+v, layers %+v", m, m.Layers)
	}
	did, records, seq := state(t, h.cfg)

	h.push(2)
	second := h.create(to, o)
	if second.Layers.Count != 7 || second.Layers.Copied != 2 || second.Name <= m.Name {
		t.Errorf("second set %s: %+v", second.Name, second.Layers)
	}
	sets, err := backup.List(t.Context(), to)
	must(t, err)
	if len(sets) != 2 || sets[0].Name != second.Name || !sets[1].Whole() {
		t.Fatalf("sets %+v", sets)
	}
	rep, err := backup.Verify(t.Context(), to, m.Name,
		backup.VerifyOptions{Trust: h.trust(), Keys: []age.Identity{key}, TempDir: t.TempDir()})
	if err != nil || !rep.Identity {
		t.Errorf("verify: %+v, %v", rep, err)
	}

	cfg := config(filepath.Join(t.TempDir(), "new"))
	ro := backup.RestoreOptions{Trust: h.trust(), Keys: []age.Identity{key}}
	dry := ro
	dry.DryRun = true
	res, err := backup.Restore(t.Context(), to, m.Name, dataDir(t, cfg), dry)
	must(t, err)
	if res.Layers != 5 || res.Missing != 0 {
		t.Errorf("dry run: %+v", res)
	}
	if _, err := os.Stat(cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dry run wrote: %v", err)
	}
	res, err = backup.Restore(t.Context(), to, m.Name, dataDir(t, cfg), ro)
	must(t, err)
	if res.Layers != 5 || res.Present != 0 || res.Missing != 0 {
		t.Errorf("restored %+v", res)
	}
	same(t, cfg, did, records, seq, h.layers[:5])
	if got, want := notes(t, cfg), notes(t, h.cfg); got != want || want == "" {
		t.Errorf("notes %q, want %q", got, want)
	}

	if _, err := backup.Restore(t.Context(), to, m.Name, dataDir(t, cfg), ro); !errors.Is(err, datadir.ErrNotEmpty) {
		t.Errorf("over a hold: %v", err)
	}
}

// The layers were not lost: only the folder of identity and databases was.
func TestRestoreBesideLayers(t *testing.T) {
	h, to := makeHold(t, 3), folder(t)
	key, o := keyPair(t)
	o.Layers = false
	h.create(to, o)
	did, records, seq := state(t, h.cfg)
	cfg := config(filepath.Join(t.TempDir(), "new"))
	cfg.StoragePath = filepath.Join(t.TempDir(), "elsewhere")
	must(t, os.Rename(filepath.Join(h.cfg.Dir, "blobs"), cfg.StoragePath))
	must(t, os.Remove(layerFile(cfg.StoragePath, h.layers[1])))
	res, err := backup.Restore(t.Context(), to, "", dataDir(t, cfg), backup.RestoreOptions{Trust: h.trust(), Keys: []age.Identity{key}})
	must(t, err)
	if res.Missing != 1 || !slices.Equal(res.First, []digest.Digest{h.layers[1]}) {
		t.Errorf("missing %d, %v", res.Missing, res.First)
	}
	same(t, cfg, did, records, seq, h.layers[:1])
}

func layerFile(root string, d digest.Digest) string {
	return filepath.Join(root, "docker/registry/v2/blobs/sha256", d.Encoded()[:2], d.Encoded(), "data")
}

func TestWithoutIdentity(t *testing.T) {
	h, to := makeHold(t, 1), folder(t)
	p := h.parts()
	if _, err := backup.Create(t.Context(), to, p, backup.Options{}); !errors.Is(err, backup.ErrNoIdentity) {
		t.Errorf("without recipients: %v", err)
	}
	m := h.create(to, backup.Options{NoIdentity: true, Layers: true})
	if m.HasIdentity() {
		t.Fatal("the identity is in the set")
	}
	did, records, seq := state(t, h.cfg)
	cfg := config(filepath.Join(t.TempDir(), "new"))
	ro := backup.RestoreOptions{Trust: h.trust()}
	if _, err := backup.Restore(t.Context(), to, "", dataDir(t, cfg), ro); !errors.Is(err, backup.ErrNoIdentity) {
		t.Fatalf("into a folder without identity: %v", err)
	}
	key, err := age.GenerateX25519Identity()
	must(t, err)
	file, err := os.Create(filepath.Join(t.TempDir(), "id.age"))
	must(t, err)
	defer file.Close()
	must(t, identitybackup.Export(file, p.Identity, key.Recipient()))
	_, err = file.Seek(0, 0)
	must(t, err)
	who := dataDir(t, cfg).Identity
	_, err = identitybackup.Import(file, who, key)
	must(t, err)
	_, err = backup.Restore(t.Context(), to, "", dataDir(t, cfg), ro)
	must(t, err)
	same(t, cfg, did, records, seq, h.layers)
}

func TestRefusals(t *testing.T) {
	h, to := makeHold(t, 1), folder(t)
	key, o := keyPair(t)
	other, _ := keyPair(t)
	h.create(to, o)
	ro := backup.RestoreOptions{Trust: h.trust(), Keys: []age.Identity{key}}

	t.Run("another hold's target", func(t *testing.T) {
		cfg := config(filepath.Join(t.TempDir(), "hold"))
		cfg.PublicURL = "https://other.example.com"
		s, err := hold.New(t.Context(), cfg)
		must(t, err)
		defer s.Close()
		if _, err := backup.Create(t.Context(), to, s.Contents(), o); !errors.Is(err, backup.ErrForeign) {
			t.Errorf("%v", err)
		}
	})
	t.Run("running server", func(t *testing.T) {
		s, err := hold.New(t.Context(), h.cfg)
		must(t, err)
		defer s.Close()
		_, err = backup.Restore(t.Context(), to, "", dataDir(t, h.cfg), ro)
		if !errors.Is(err, hold.ErrLocked) || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
			t.Errorf("%v", err)
		}
		h.create(to, o) // beside it
	})
	t.Run("not empty", func(t *testing.T) {
		cfg := config(t.TempDir())
		must(t, os.WriteFile(filepath.Join(cfg.Dir, "letter.txt"), nil, 0o600))
		_, err := backup.Restore(t.Context(), to, "", dataDir(t, cfg), ro)
		if !errors.Is(err, datadir.ErrNotEmpty) || !strings.Contains(err.Error(), "letter.txt") {
			t.Errorf("%v", err)
		}
	})
	t.Run("keys", func(t *testing.T) {
		cfg := config(filepath.Join(t.TempDir(), "new"))
		ro := backup.RestoreOptions{Trust: h.trust()}
		if _, err := backup.Restore(t.Context(), to, "", dataDir(t, cfg), ro); !errors.Is(err, backup.ErrNoIdentity) {
			t.Errorf("without: %v", err)
		}
		ro.Keys = []age.Identity{other}
		if _, err := backup.Restore(t.Context(), to, "", dataDir(t, cfg), ro); !errors.Is(err, identitybackup.ErrDecrypt) {
			t.Errorf("another: %v", err)
		}
		_, err := backup.Verify(t.Context(), to, "", backup.VerifyOptions{Trust: ro.Trust, Keys: ro.Keys})
		if !errors.Is(err, identitybackup.ErrDecrypt) {
			t.Errorf("another, verify: %v", err)
		}
		if _, err := os.Stat(cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the folder was made: %v", err)
		}
	})
	t.Run("names", func(t *testing.T) {
		for _, name := range []string{"../x", "20260101T000000.000000Z", "yesterday"} {
			if _, err := backup.Find(t.Context(), to, name); !errors.Is(err, backup.ErrNoSet) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := backup.Find(t.Context(), folder(t), ""); !errors.Is(err, backup.ErrNoSet) {
			t.Errorf("empty target: %v", err)
		}
	})
	t.Run("two at once", func(t *testing.T) {
		waiting, go1 := make(chan struct{}), make(chan struct{})
		var once sync.Once
		slow := crashpoint.With(t.Context(), func(string) error { once.Do(func() { close(waiting); <-go1 }); return nil })
		p := h.parts()
		done := make(chan error)
		go func() {
			_, err := backup.Create(slow, to, p, o)
			done <- err
		}()
		<-waiting
		_, err := backup.Create(t.Context(), to, p, o)
		close(go1)
		if !errors.Is(err, hold.ErrLocked) {
			t.Errorf("%v", err)
		}
		must(t, <-done)
	})
	t.Run("target not mounted", func(t *testing.T) {
		if _, err := backup.OpenFolder(filepath.Join(t.TempDir(), "a", "b")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v", err)
		}
	})
}

// Each file of a set, damaged in each way, is refused by name, and nothing is restored.
func TestDamage(t *testing.T) {
	h, to := makeHold(t, 3), folder(t)
	key, o := keyPair(t)
	o.Config = []byte("version: x\n")
	m := h.create(to, o)
	set := filepath.Join(to.String(), "sets", m.Name)
	victims := map[string]string{"layer": layerFile(filepath.Join(to.String(), "layers"), h.layers[1])}
	for _, f := range m.Files {
		victims[f.Name] = filepath.Join(set, f.Name)
	}
	victims["manifest.json"], victims["manifest.sig"] = filepath.Join(set, "manifest.json"), filepath.Join(set, "manifest.sig")
	ways := map[string]func(path string, b []byte) error{
		"flipped":   func(p string, b []byte) error { b[len(b)/2] ^= 1; return os.WriteFile(p, b, 0o600) },
		"truncated": func(p string, b []byte) error { return os.WriteFile(p, b[:len(b)-1], 0o600) },
		"longer":    func(p string, b []byte) error { return os.WriteFile(p, append(b, 'x'), 0o600) },
		"gone":      func(p string, _ []byte) error { return os.Remove(p) },
	}
	for name, path := range victims {
		for way, harm := range ways {
			t.Run(name+" "+way, func(t *testing.T) {
				whole, err := os.ReadFile(path)
				must(t, err)
				defer func() { must(t, os.WriteFile(path, whole, 0o600)) }()
				must(t, harm(path, slices.Clone(whole)))
				want := backup.ErrDamaged
				if name == "manifest.json" && way == "gone" {
					want = backup.ErrNoSet
				}
				base := name
				if name == "layer" {
					base = h.layers[1].Encoded()
				}
				_, err = backup.Verify(t.Context(), to, "", backup.VerifyOptions{Trust: h.trust(), Keys: []age.Identity{key}})
				if !errors.Is(err, want) || want == backup.ErrDamaged && !strings.Contains(err.Error(), base) {
					t.Errorf("verify: %v", err)
				}
				if name == "config.yaml" {
					return // a restore does not use it
				}
				cfg := config(filepath.Join(t.TempDir(), "new"))
				_, err = backup.Restore(t.Context(), to, "", dataDir(t, cfg),
					backup.RestoreOptions{Trust: h.trust(), Keys: []age.Identity{key}})
				if !errors.Is(err, want) || want == backup.ErrDamaged && !strings.Contains(err.Error(), base) {
					t.Errorf("restore: %v", err)
				}
				for _, made := range []string{"did.txt", "keys", "repo.db", "hold.db"} {
					if _, err := os.Stat(filepath.Join(cfg.Dir, made)); err == nil {
						t.Errorf("a refused restore left %s", made)
					}
				}
			})
		}
	}
	_, err := backup.Verify(t.Context(), to, "", backup.VerifyOptions{Trust: h.trust()})
	must(t, err)
}

func TestPrune(t *testing.T) {
	h, to := makeHold(t, 1), folder(t)
	_, o := keyPair(t)
	// The first set's layer is its own alone.
	extra := h.layers[0]
	var names []string
	names = append(names, h.create(to, o).Name)
	r, err := datadir.OpenRepo(t.Context(), dataDir(t, h.cfg))
	must(t, err)
	for rec, err := range r.Repo.List(t.Context(), atcr.NSIDLayer, "", false) {
		must(t, err)
		_, err = r.Repo.Apply(t.Context(), []repo.Write{{Action: repo.Delete, Collection: atcr.NSIDLayer, RKey: rec.RKey}})
		must(t, err)
	}
	must(t, r.Close())
	for range 4 {
		h.push(1)
		names = append(names, h.create(to, o).Name)
	}
	foreign := []string{"README", "sets/README", "sets/" + names[0] + "/letter.txt", "layers/other"}
	for _, f := range foreign {
		must(t, os.WriteFile(filepath.Join(to.String(), f), []byte("mine"), 0o600))
	}
	p := h.parts()

	// The newest is damaged: it doesn't count, and the newest good one stays though one only is to be kept.
	car := filepath.Join(to.String(), "sets", names[4], "repo.car")
	whole, err := os.ReadFile(car)
	must(t, err)
	must(t, os.WriteFile(car, whole[:len(whole)-1], 0o600))
	gone, err := backup.Prune(t.Context(), to, p, 1)
	if !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), names[4]) {
		t.Errorf("damage is not told: %v", err)
	}
	if !slices.Equal(gone, []string{names[2], names[1], names[0]}) {
		t.Errorf("removed %v", gone)
	}
	if _, err := backup.Verify(t.Context(), to, names[3], backup.VerifyOptions{Trust: h.trust()}); err != nil {
		t.Errorf("the newest good one: %v", err)
	}
	must(t, os.WriteFile(car, whole, 0o600))
	for _, f := range foreign {
		if b, err := os.ReadFile(filepath.Join(to.String(), f)); err != nil || string(b) != "mine" {
			t.Errorf("%s: %v", f, err)
		}
	}
	layer := func(d digest.Digest) error {
		_, err := os.Stat(layerFile(filepath.Join(to.String(), "layers"), d))
		return err
	}
	must(t, layer(extra)) // with damage about no layer is removed
	gone, err = backup.Prune(t.Context(), to, p, 1)
	must(t, err)
	if !slices.Equal(gone, []string{names[3]}) {
		t.Errorf("removed %v", gone)
	}
	if err := layer(extra); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layer that no set names: %v", err)
	}
	for _, d := range h.layers[1:] {
		must(t, layer(d))
	}
	if _, err := backup.Verify(t.Context(), to, "", backup.VerifyOptions{Trust: h.trust()}); err != nil {
		t.Error(err)
	}
	if gone, err := backup.Prune(t.Context(), to, p, 1); err != nil || len(gone) > 0 {
		t.Errorf("again: %v, %v", gone, err)
	}
}

// Sets by the key of before a rotation, and unsigned ones, go when there are enough of now, and not before.
func TestPruneAfterRotation(t *testing.T) {
	h, to := makeHold(t, 1), folder(t)
	_, o := keyPair(t)
	names := []string{h.create(to, o).Name, h.create(to, o).Name}
	unsign(t, to, names[0])
	h.rotate()
	names = append(names, h.create(to, o).Name)
	gone, err := backup.Prune(t.Context(), to, h.parts(), 2)
	if err != nil || len(gone) > 0 {
		t.Errorf("removed %v, %v", gone, err)
	}
	names = append(names, h.create(to, o).Name)
	gone, err = backup.Prune(t.Context(), to, h.parts(), 2)
	if err != nil || !slices.Equal(gone, []string{names[1], names[0]}) {
		t.Errorf("removed %v, %v", gone, err)
	}
	if _, err := backup.Verify(t.Context(), to, "", backup.VerifyOptions{Trust: h.trust()}); err != nil {
		t.Error(err)
	}
}

// What a manifest says is shown to people: a target must not speak to their terminals.
func TestManifestIsPlain(t *testing.T) {
	h, to := makeHold(t, 0), folder(t)
	_, o := keyPair(t)
	o.Version = "v1\n\x1b[2J\u009b2J" + strings.Repeat("é", 1000)
	m := h.create(to, o)
	if m.Version != "v1[2J2J"+strings.Repeat("é", 124) {
		t.Errorf("version %q", m.Version)
	}
	if _, err := backup.Find(t.Context(), to, m.Name); err != nil {
		t.Error(err)
	}
	whole := read(t, to, m.Name, "manifest.json")
	const escape = `\u001b[2J`
	for _, c := range []struct{ field, value, other string }{
		{"rev", m.Rev, escape}, {"name", m.Name, escape}, {"did", m.DID.String(), escape}, {"signingKey", m.SigningKey, escape},
		{"version", m.Version, escape}, {"version", m.Version, `\u009b2J`}, {"version", m.Version, strings.Repeat("x", 257)},
		{"commit", m.Commit, escape}, {"commit", m.Commit, strings.Repeat("x", 257)},
		{"sha256", m.Files[0].SHA256, escape + strings.Repeat("0", 60)}, {"sha256", m.Files[0].SHA256, strings.Repeat("x", 64)},
		{"sha256", m.Files[0].SHA256, strings.Repeat("0", 63)}, {"commit", m.Commit, `", "sum": "` + escape},
	} {
		field := c.field
		text := strings.Replace(whole, fmt.Sprintf(`"%s": "%s"`, field, c.value), fmt.Sprintf(`"%s": "%s"`, field, c.other), 1)
		if text == whole {
			t.Fatalf("no %s in %s", field, whole)
		}
		write(t, to, m.Name, "manifest.json", text)
		write(t, to, m.Name, "manifest.sig", sign(t, h.key(), text))
		_, err := backup.Find(t.Context(), to, m.Name)
		if !errors.Is(err, backup.ErrDamaged) || strings.Contains(err.Error(), "does not belong") || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// A folder whose name only looks like a set's is not ours, and keeps no backup from being made.
func TestNotASet(t *testing.T) {
	h, to := makeHold(t, 0), folder(t)
	_, o := keyPair(t)
	other := filepath.Join(to.String(), "sets", "99999999T999999.999999Z")
	must(t, os.MkdirAll(other, 0o700))
	must(t, os.WriteFile(filepath.Join(other, "repo.car"), []byte("mine"), 0o600))
	m := h.create(to, o)
	sets, err := backup.List(t.Context(), to)
	if err != nil || len(sets) != 1 || sets[0].Name != m.Name {
		t.Errorf("%+v, %v", sets, err)
	}
	if _, err := os.Stat(filepath.Join(other, "repo.car")); err != nil {
		t.Errorf("it was removed: %v", err)
	}
}

// A set of another hold than the configured one is not restored.
func TestRestoreOfAnother(t *testing.T) {
	h, to := makeHold(t, 0), folder(t)
	key, o := keyPair(t)
	h.create(to, o)
	cfg := config(filepath.Join(t.TempDir(), "new"))
	cfg.Identity.DID = "did:web:other.example.com"
	if _, err := backup.Restore(t.Context(), to, "", dataDir(t, cfg),
		backup.RestoreOptions{Trust: h.trust(), Keys: []age.Identity{key}}); !errors.Is(err, backup.ErrForeign) {
		t.Errorf("restored: %v", err)
	}
	if _, err := os.Stat(cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}

// An older set's list of layers has lost its end: what it named is not known, so that no layer is removed.
func TestPruneByDamagedList(t *testing.T) {
	h, to := makeHold(t, 3), folder(t)
	_, o := keyPair(t)
	h.create(to, o)
	older := h.create(to, o)
	r, err := datadir.OpenRepo(t.Context(), dataDir(t, h.cfg))
	must(t, err)
	for rec, err := range r.Repo.List(t.Context(), atcr.NSIDLayer, "", false) {
		must(t, err)
		_, err = r.Repo.Apply(t.Context(), []repo.Write{{Action: repo.Delete, Collection: atcr.NSIDLayer, RKey: rec.RKey}})
		must(t, err)
	}
	must(t, r.Close())
	h.create(to, o)
	list := filepath.Join(to.String(), "sets", older.Name, "layers.txt")
	whole, err := os.ReadFile(list)
	must(t, err)
	cut := bytes.IndexByte(whole, '\n') + 1
	must(t, os.WriteFile(list, whole[:cut], 0o600))

	gone, err := backup.Prune(t.Context(), to, h.parts(), 2)
	if len(gone) != 1 || !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), older.Name) {
		t.Errorf("removed %v, %v", gone, err)
	}
	must(t, os.WriteFile(list, whole, 0o600))
	if _, err := backup.Verify(t.Context(), to, older.Name, backup.VerifyOptions{Trust: h.trust()}); err != nil {
		t.Errorf("its layers: %v", err)
	}
}

// A layer that a record names and the hold has lost does not keep the rest from being saved.
func TestLostLayers(t *testing.T) {
	h, to := makeHold(t, 4), folder(t)
	_, o := keyPair(t)
	log := &lockedBuffer{}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	must(t, os.Remove(layerFile(filepath.Join(h.cfg.Dir, "blobs"), h.layers[0])))
	must(t, os.WriteFile(layerFile(filepath.Join(h.cfg.Dir, "blobs"), h.layers[1]), []byte("rotten"), 0o600))
	m := h.create(to, o)
	if m.Layers.Count != 2 || m.Layers.Missing != 2 || !strings.Contains(log.String(), "lost layers") {
		t.Errorf("%+v; log: %s", m.Layers, log)
	}
	if _, err := backup.Verify(t.Context(), to, "", backup.VerifyOptions{Trust: h.trust()}); err != nil {
		t.Error(err)
	}
}
