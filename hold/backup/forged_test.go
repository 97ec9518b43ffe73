package backup_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/backup/s3target"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/realtest"
)

const mallory = "did:plc:eeeeeeeeeeeeeeeeeeeeeeee"

// sign is the text of manifest.sig, as the format has it.
func sign(t testing.TB, key atcrypto.PrivateKey, manifest string) string {
	t.Helper()
	sig, err := key.HashAndSign([]byte("atcr-backup-2\n" + manifest))
	must(t, err)
	return base64.RawURLEncoding.EncodeToString(sig) + "\n"
}

func read(t testing.TB, to backup.Target, set, file string) string {
	t.Helper()
	r, err := to.Open(context.Background(), "sets/"+set+"/"+file)
	must(t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	must(t, err)
	return string(b)
}

func write(t testing.TB, to backup.Target, set, file, text string) {
	t.Helper()
	must(t, to.Put(context.Background(), "sets/"+set+"/"+file, strings.NewReader(text), int64(len(text))))
}

// borrow returns a set's manifest, which comes back with its signature in the end of the test.
func borrow(t *testing.T, to backup.Target, set string) string {
	t.Helper()
	text, sig := read(t, to, set, "manifest.json"), read(t, to, set, "manifest.sig")
	t.Cleanup(func() { write(t, to, set, "manifest.json", text); write(t, to, set, "manifest.sig", sig) })
	return text
}

// alter writes a set's manifest anew, signed by a key unless that is nil; the old one comes back in the end of the test.
func alter(t *testing.T, to backup.Target, set string, key atcrypto.PrivateKey, change func(*backup.Manifest)) {
	t.Helper()
	var m backup.Manifest
	must(t, json.Unmarshal([]byte(borrow(t, to, set)), &m))
	change(&m)
	b, err := json.MarshalIndent(&m, "", "  ")
	must(t, err)
	write(t, to, set, "manifest.json", string(b))
	if key != nil {
		write(t, to, set, "manifest.sig", sign(t, key, string(b)))
	}
}

// exchange puts other bytes into a file of a set, and its size and digest into the manifest.
func exchange(t *testing.T, to backup.Target, set, file, text string, key atcrypto.PrivateKey) {
	t.Helper()
	old := read(t, to, set, file)
	t.Cleanup(func() { write(t, to, set, file, old) })
	write(t, to, set, file, text)
	alter(t, to, set, key, func(m *backup.Manifest) {
		for i := range m.Files {
			if m.Files[i].Name == file {
				m.Files[i].Size, m.Files[i].SHA256 = int64(len(text)), digest.FromString(text).Encoded()
			}
		}
		if m.Layers != nil && file == "layers.txt" {
			m.Layers.Count, m.Layers.Missing = int64(strings.Count(text, "\n")), 0
		}
	})
}

// unsign makes a set one of before sets were signed.
func unsign(t *testing.T, to backup.Target, set string) {
	t.Helper()
	text := strings.Replace(borrow(t, to, set), "atcr-backup-2", "atcr-backup-1", 1)
	text = strings.TrimSuffix(text, "\n}") + ",\n  \"sum\": \"\"\n}"
	text = strings.Replace(text, `"sum": ""`, `"sum": "`+digest.FromString(text).Encoded()+`"`, 1)
	write(t, to, set, "manifest.json", text)
	must(t, to.Delete(context.Background(), "sets/"+set+"/manifest.sig"))
}

// forger is who can write to the target: it has a folder with the DID of a hold, a key of its own, and a crew of its own.
type forger struct{ *made }

func newForger(t testing.TB, did syntax.DID, from hold.Config) *forger {
	t.Helper()
	f := &forger{&made{t: t, cfg: from}}
	f.cfg.Dir = filepath.Join(t.TempDir(), "forger")
	key, err := atcrypto.GeneratePrivateKeyK256()
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(f.cfg.Dir, "keys"), 0o700))
	must(t, os.WriteFile(filepath.Join(f.cfg.Dir, "keys", "signing.key"), []byte(key.Multibase()), 0o600))
	must(t, os.WriteFile(filepath.Join(f.cfg.Dir, "did.txt"), []byte(did.String()), 0o600))
	now := atcr.NewDatetime(time.Now())
	f.apply(create(t, atcr.NSIDCaptain, "self", atcr.Captain{Owner: mallory, AllowAllCrew: true, DeployedAt: now}),
		create(t, atcr.NSIDCrew, atcr.CrewRKey(mallory),
			atcr.Crew{Member: mallory, Role: "admin", Permissions: []string{"crew:admin"}, AddedAt: now}))
	return f
}

// plant makes a set and brings it to a target; it goes in the end of the test.
func (f *forger) plant(t *testing.T, to backup.Target, o backup.Options) *backup.Manifest {
	t.Helper()
	own := folder(t)
	m := f.create(own, o)
	files := []string{"manifest.json", "manifest.sig"}
	for _, file := range m.Files {
		files = append(files, file.Name)
	}
	for _, file := range files {
		write(t, to, m.Name, file, read(t, own, m.Name, file))
	}
	t.Cleanup(func() {
		for _, file := range files {
			must(t, to.Delete(context.Background(), "sets/"+m.Name+"/"+file))
		}
	})
	return m
}

// victim is a hold with two sets at a target.
type victim struct {
	*made
	to           backup.Target
	o            backup.Options
	key          *age.X25519Identity
	older, newer *backup.Manifest
	documents    func(context.Context, syntax.DID, time.Time) ([]string, error)
	did          syntax.DID
}

// Whoever can write to the target can't have his hold restored, whatever the hold's DID is, whatever the target is, and wherever its key
// is known from.
func TestForged(t *testing.T) {
	s3 := realtest.S3(t)
	network := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{}})
	targets := map[string]func(t *testing.T, prefix string) backup.Target{
		"folder": func(t *testing.T, _ string) backup.Target { return folder(t) },
		"S3": func(t *testing.T, prefix string) backup.Target {
			to, err := s3target.Open("s3://"+s3.Bucket+"/"+prefix, s3target.Options{Endpoint: s3.Endpoint, AccessKey: s3.AccessKey,
				SecretKey: s3.SecretKey})
			must(t, err)
			return to
		},
	}
	for _, method := range []string{"web", "plc"} {
		for name, target := range targets {
			t.Run(method+" "+name, func(t *testing.T) {
				t.Parallel()
				v := newVictim(t, method, network.PLC, target(t, method))
				t.Run("keys", func(t *testing.T) {
					forger := v.attacks(t, v.trustKeys())
					old := backup.RestoreOptions{Trust: v.trustKeys()}
					old.Trust.Older = true
					v.alterations(t, old, forger)
				})
				t.Run("document", func(t *testing.T) { v.attacks(t, backup.Trust{Document: v.documents, DID: v.did}) })
				t.Run("nothing known", func(t *testing.T) { v.nothingKnown(t) })
				t.Run("unsigned", func(t *testing.T) { v.unsigned(t) })
			})
		}
	}
}

func newVictim(t *testing.T, method, directory string, to backup.Target) *victim {
	t.Helper()
	v := &victim{made: &made{t: t, cfg: config(filepath.Join(t.TempDir(), "hold"))}, to: to}
	if method == "plc" {
		v.cfg.Identity.Method, v.cfg.PLCURL = "plc", directory
		v.cfg.TestMode, v.cfg.PublicURL = true, "http://localhost:1"
	}
	s, err := hold.New(t.Context(), v.cfg)
	must(t, err)
	v.did = syntax.DID(s.DID())
	if method == "plc" {
		_, err := identity.EnsurePLCCurrent(t.Context(), must2(identity.Load(dataDir(t, v.cfg).Identity))(t), dataDir(t, v.cfg).Identity)
		must(t, err)
	}
	must(t, s.Close())
	v.key, v.o = keyPair(t)
	v.o.Config = []byte("version: x\n")
	v.push(2)
	v.older = v.create(to, v.o)
	v.push(1)
	v.newer = v.create(to, v.o)
	v.documents = func(ctx context.Context, did syntax.DID, at time.Time) ([]string, error) {
		if did.Method() == "plc" {
			log, err := (&plc.Client{URL: directory, HTTP: http.DefaultClient}).Log(ctx, did)
			if err != nil {
				return nil, err
			}
			return log.SigningKeysAt(at, time.Minute), nil
		}
		return []string{v.newer.SigningKey}, nil // as its host would show it
	}
	return v
}

func (v *victim) trustKeys() backup.Trust { return backup.Trust{Keys: []string{v.newer.SigningKey}} }

// refused makes sure that a set is neither good nor restored, and that nothing was written.
func (v *victim) refused(t *testing.T, set string, o backup.RestoreOptions, want error) {
	t.Helper()
	o.Keys = []age.Identity{v.key}
	_, err := backup.Verify(t.Context(), v.to, set, backup.VerifyOptions{Trust: o.Trust, Keys: o.Keys, TempDir: t.TempDir()})
	if !errors.Is(err, want) {
		t.Errorf("verify: %v, want %v", err, want)
	}
	v.notRestored(t, set, o, want)
}

func (v *victim) notRestored(t *testing.T, set string, o backup.RestoreOptions, want error) {
	t.Helper()
	cfg := v.cfg
	cfg.Dir, o.Keys = filepath.Join(t.TempDir(), "new"), []age.Identity{v.key}
	if _, err := backup.Restore(t.Context(), v.to, set, dataDir(t, cfg), o); !errors.Is(err, want) {
		t.Errorf("restore: %v, want %v", err, want)
	}
	if _, err := os.Stat(cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}

// restored restores the newest set, and looks at whose hold it is.
func (v *victim) restored(t *testing.T, set string, o backup.RestoreOptions) *backup.Restored {
	t.Helper()
	cfg := v.cfg
	cfg.Dir, o.Keys = filepath.Join(t.TempDir(), "new"), []age.Identity{v.key}
	res, err := backup.Restore(t.Context(), v.to, set, dataDir(t, cfg), o)
	must(t, err)
	did, records, seq := state(t, v.cfg)
	same(t, cfg, did, records, seq, v.layers)
	return res
}

func (v *victim) attacks(t *testing.T, trust backup.Trust) *forger {
	ro := backup.RestoreOptions{Trust: trust}
	old := ro
	old.Trust.Older = true
	forger := newForger(t, v.did, v.cfg)
	t.Run("honest", func(t *testing.T) {
		var shown *backup.Claims
		o := ro
		o.Show = func(c *backup.Claims) { shown = c }
		o.Confirm = func(context.Context, *backup.Claims) error { t.Error("asked"); return nil }
		v.restored(t, "", o)
		if shown == nil || shown.Unproven != nil || shown.Captain != owner || shown.Members != 1 ||
			shown.Crew[0].DID != "did:web:alice.test" {
			t.Errorf("shown %+v", shown)
		}
	})
	t.Run("forged", func(t *testing.T) {
		m := forger.plant(t, v.to, v.o)
		v.refused(t, "", ro, backup.ErrUntrusted)
		v.refused(t, m.Name, old, backup.ErrUntrusted)
		v.restored(t, v.newer.Name, ro) // which the other does not make old
	})
	t.Run("forged, of a time to come", func(t *testing.T) {
		o := v.o
		o.Clock = func() time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC) }
		forger.plant(t, v.to, o)
		v.refused(t, "", old, backup.ErrUntrusted)
		m := v.create(v.to, v.o) // the hold's own sets go on
		if time.Since(m.Created) > time.Minute || m.Name[:4] == "9999" {
			t.Errorf("set %s of %s", m.Name, m.Created)
		}
		for range 2 {
			v.create(v.to, v.o)
		}
		gone, err := backup.Prune(t.Context(), v.to, v.parts(), 3)
		must(t, err)
		for _, name := range gone {
			if name >= m.Name {
				t.Errorf("%s was pushed out by the forged one", name)
			}
		}
		v.older, v.newer = m, must2(backup.Find(t.Context(), v.to, sets(t, v.to)[1]))(t)
	})
	t.Run("older", func(t *testing.T) {
		v.refused(t, v.older.Name, ro, backup.ErrOld)
		must2(backup.Verify(t.Context(), v.to, v.older.Name, backup.VerifyOptions{Trust: old.Trust}))(t)
		late := ro
		late.Trust.MaxAge, late.Trust.Clock = 2*time.Hour, func() time.Time { return time.Now().Add(3 * time.Hour) }
		v.refused(t, "", late, backup.ErrOld)
		late.Trust.MaxAge = 4 * time.Hour
		must2(backup.Verify(t.Context(), v.to, "", backup.VerifyOptions{Trust: late.Trust}))(t)
		late.Trust.MaxAge, late.Trust.Clock = 0, func() time.Time { return time.Now().Add(8 * 24 * time.Hour) }
		v.refused(t, "", late, backup.ErrOld)
		late.Trust.Clock = func() time.Time { return time.Now().Add(-8 * 24 * time.Hour) }
		v.refused(t, "", late, backup.ErrOld)
	})
	return forger
}

// alterations change the newest set, unsigned, signed by the forger or with the signature of another set.
func (v *victim) alterations(t *testing.T, old backup.RestoreOptions, forger *forger) {
	name := v.newer.Name
	changes := map[string]func(t *testing.T, key atcrypto.PrivateKey, as string){
		"renumbered": func(t *testing.T, key atcrypto.PrivateKey, as string) {
			alter(t, v.to, name, key, func(m *backup.Manifest) { m.Seq, m.SigningKey = 9223372033254775807, as })
		},
		"made younger": func(t *testing.T, key atcrypto.PrivateKey, as string) {
			alter(t, v.to, name, key, func(m *backup.Manifest) { m.Created, m.SigningKey = m.Created.Add(time.Hour), as })
		},
	}
	for file, text := range map[string]string{
		"layers.txt": "sha256:" + strings.Repeat("0", 64) + " 1\n", "notes.jsonl": `{"did":"` + mallory + `"}` + "\n",
		"config.yaml": "version: y\n", "identity.age": "x", "repo.car": "x",
	} {
		changes[file+" exchanged"] = func(t *testing.T, key atcrypto.PrivateKey, as string) {
			exchange(t, v.to, name, file, text, nil)
			alter(t, v.to, name, key, func(m *backup.Manifest) { m.SigningKey = as })
		}
	}
	for what, change := range changes {
		t.Run(what, func(t *testing.T) {
			t.Run("not signed", func(t *testing.T) {
				change(t, nil, v.newer.SigningKey)
				v.refused(t, name, old, backup.ErrDamaged)
			})
			t.Run("signed by another", func(t *testing.T) {
				change(t, forger.key(), v.newer.SigningKey)
				v.refused(t, name, old, backup.ErrDamaged)
			})
			t.Run("signed as another", func(t *testing.T) {
				change(t, forger.key(), didKey(t, forger.key()))
				v.refused(t, name, old, backup.ErrUntrusted)
			})
		})
	}
	t.Run("signature of another set", func(t *testing.T) {
		mine := read(t, v.to, name, "manifest.sig")
		defer write(t, v.to, name, "manifest.sig", mine)
		write(t, v.to, name, "manifest.sig", read(t, v.to, v.older.Name, "manifest.sig"))
		v.refused(t, name, old, backup.ErrDamaged)
	})
	t.Run("older under a newer name", func(t *testing.T) {
		later := "99990101T000000.000000Z"
		for _, f := range append(v.older.Files, backup.File{Name: "manifest.json"}, backup.File{Name: "manifest.sig"}) {
			write(t, v.to, later, f.Name, read(t, v.to, v.older.Name, f.Name))
			defer func() { must(t, v.to.Delete(t.Context(), "sets/"+later+"/"+f.Name)) }()
		}
		v.refused(t, "", old, backup.ErrDamaged)
	})
	t.Run("numbers of the hold itself", func(t *testing.T) { // its clock was wrong once
		ahead := old
		ahead.Trust.Ahead = true
		t.Run("two days", func(t *testing.T) {
			alter(t, v.to, name, v.made.key(), func(m *backup.Manifest) { m.Seq = m.Created.Add(48 * time.Hour).UnixMicro() })
			v.refused(t, name, old, backup.ErrSeq)
			v.restored(t, name, ahead)
		})
		for _, seq := range []int64{-1, 9223372033254775807, 1 << 53} {
			t.Run(fmt.Sprint(seq), func(t *testing.T) {
				alter(t, v.to, name, v.made.key(), func(m *backup.Manifest) { m.Seq = seq })
				v.refused(t, name, ahead, backup.ErrSeq)
			})
		}
	})
}

// nothingKnown: somebody has to be asked, and is shown whose hold it would be.
func (v *victim) nothingKnown(t *testing.T) {
	errNo := errors.New("no")
	for what, trust := range map[string]backup.Trust{
		"nothing": {},
		"the document can't be asked": {DID: v.did, Document: func(context.Context, syntax.DID, time.Time) ([]string, error) {
			return nil, errors.New("it is down")
		}},
		// Anybody can make a DID whose document names his key.
		"the DID is the set's": {Document: v.documents},
	} {
		t.Run(what, func(t *testing.T) {
			v.refused(t, "", backup.RestoreOptions{Trust: trust}, backup.ErrUntrusted)
			var asked *backup.Claims
			no := backup.RestoreOptions{Trust: trust, Confirm: func(_ context.Context, c *backup.Claims) error { asked = c; return errNo }}
			v.notRestored(t, "", no, errNo)
			if asked == nil || !errors.Is(asked.Unproven, backup.ErrUntrusted) || asked.Captain != owner || asked.Members != 1 {
				t.Errorf("asked %+v", asked)
			}
			newForger(t, v.did, v.cfg).plant(t, v.to, v.o)
			v.notRestored(t, "", no, errNo)
			if asked.Captain != mallory || len(asked.Crew) != 1 || asked.Crew[0].DID != mallory ||
				asked.Crew[0].Permissions[0] != "crew:admin" {
				t.Errorf("asked about the forged one: %+v", asked)
			}
		})
	}
	yes := backup.RestoreOptions{Confirm: func(context.Context, *backup.Claims) error { return nil }}
	v.restored(t, "", yes)
	v.notRestored(t, v.older.Name, yes, backup.ErrOld)
	alter(t, v.to, v.newer.Name, v.made.key(), func(m *backup.Manifest) { m.Seq = 9223372033254775807 })
	v.notRestored(t, "", yes, backup.ErrSeq)
}

// unsigned: sets of before need both the word and the question, whatever is known.
func (v *victim) unsigned(t *testing.T) {
	unsign(t, v.to, v.newer.Name)
	trust := v.trustKeys()
	v.refused(t, "", backup.RestoreOptions{Trust: trust}, backup.ErrUnsigned)
	v.notRestored(t, "", backup.RestoreOptions{Trust: trust, Confirm: func(context.Context, *backup.Claims) error { return nil }},
		backup.ErrUnsigned)
	trust.Unsigned = true
	v.notRestored(t, "", backup.RestoreOptions{Trust: trust}, backup.ErrUnsigned)
	must2(backup.Verify(t.Context(), v.to, "", backup.VerifyOptions{Trust: trust}))(t)
	asked := 0
	v.restored(t, "", backup.RestoreOptions{Trust: trust, Confirm: func(_ context.Context, c *backup.Claims) error {
		if asked++; !errors.Is(c.Unproven, backup.ErrUnsigned) {
			t.Errorf("asked because of %v", c.Unproven)
		}
		return nil
	}})
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	t.Run("forged", func(t *testing.T) {
		m := newForger(t, v.did, v.cfg).plant(t, v.to, v.o)
		unsign(t, v.to, m.Name)
		v.refused(t, m.Name, backup.RestoreOptions{Trust: trust, Confirm: func(context.Context, *backup.Claims) error {
			t.Error("asked")
			return nil
		}}, backup.ErrUntrusted)
	})
	old := read(t, v.to, v.newer.Name, "manifest.json")
	write(t, v.to, v.newer.Name, "manifest.json", strings.Replace(old, `"records": `, `"records": 1`, 1))
	v.refused(t, "", backup.RestoreOptions{Trust: trust}, backup.ErrDamaged)
}

func sets(t testing.TB, to backup.Target) (names []string) {
	t.Helper()
	all, err := backup.List(context.Background(), to)
	must(t, err)
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names
}

// must2 returns the value, for what returns an error, too.
func must2[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// A hold tells of what would keep its sets from being restored.
func TestCreateWarns(t *testing.T) {
	h, to := makeHold(t, 0), folder(t)
	_, o := keyPair(t)
	log := &lockedBuffer{}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	o.Trusted = []string{didKey(t, h.key())}
	h.create(to, o)
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
	o.Trusted = []string{"did:key:zDnaerx9CtbPJ1q36T5Ln5wYt3MQYeGRG5ehnPAmxcf5mDZpv"}
	o.Clock = func() time.Time { return time.Now().Add(-48 * time.Hour) }
	h.create(folder(t), o)
	if !strings.Contains(log.String(), didKey(t, h.key())) || !strings.Contains(log.String(), "ahead of the clock") {
		t.Errorf("log: %s", log)
	}
}

// Trust.Keys that are none are told, not passed over.
func TestTrustKeys(t *testing.T) {
	h, to := makeHold(t, 0), folder(t)
	_, o := keyPair(t)
	h.create(to, o)
	for _, k := range []string{"", "age1x", "did:key:z1", "did:web:x.test"} {
		_, err := backup.Verify(t.Context(), to, "", backup.VerifyOptions{Trust: backup.Trust{Keys: []string{k}}})
		if err == nil || !strings.Contains(err.Error(), "Trust.Keys") {
			t.Errorf("%q: %v", k, err)
		}
	}
}

// plantLayer puts bytes where a layer belongs.
func plantLayer(t *testing.T, to backup.Target, d digest.Digest, b []byte) {
	t.Helper()
	must(t, to.Put(t.Context(), layerFile("layers", d), bytes.NewReader(b), int64(len(b))))
}

// Who can add to the target puts a layer there before the hold does, in its size: it does not stay.
func TestPlantedLayer(t *testing.T) {
	h, to := makeHold(t, 2), folder(t)
	_, o := keyPair(t)
	h.create(to, o)
	for what, c := range map[string]struct {
		bytes  func(n int) []byte
		copied int64
		harm   bool // the list of the set before
	}{
		"other bytes":                            {func(n int) []byte { return make([]byte, 10_000+n) }, 1, false},
		"what a backup that was broken off left": {func(n int) []byte { return pattern(n, 10_000+n) }, 0, false},
		"other bytes, and the list damaged":      {func(n int) []byte { return make([]byte, 10_000+n) }, 1, true},
	} {
		t.Run(what, func(t *testing.T) {
			n := len(h.layers)
			h.push(1)
			plantLayer(t, to, h.layers[n], c.bytes(n))
			if c.harm {
				last := sets(t, to)[0]
				list := read(t, to, last, "layers.txt")
				defer write(t, to, last, "layers.txt", list)
				write(t, to, last, "layers.txt", list+h.layers[n].String()+" 10000\n")
			}
			m := h.create(to, o)
			if m.Layers.Copied != c.copied || m.Layers.Missing != 0 {
				t.Errorf("%+v", m.Layers)
			}
			must2(backup.Verify(t.Context(), to, m.Name, backup.VerifyOptions{Trust: h.trust()}))(t)
		})
	}
}
