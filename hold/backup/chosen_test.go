package backup_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"filippo.io/age"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/repo"
)

// onlyIdentity is a new folder with DID and keys of another.
func onlyIdentity(t *testing.T, from hold.Config) hold.Config {
	t.Helper()
	cfg := from
	cfg.Dir = filepath.Join(t.TempDir(), "identity")
	must(t, os.CopyFS(filepath.Join(cfg.Dir, "keys"), os.DirFS(filepath.Join(from.Dir, "keys"))))
	for path, mode := range map[string]os.FileMode{"": 0o700, "keys": 0o700, "keys/signing.key": 0o600} {
		must(t, os.Chmod(filepath.Join(cfg.Dir, path), mode))
	}
	did, err := os.ReadFile(filepath.Join(from.Dir, "did.txt"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(cfg.Dir, "did.txt"), did, 0o600))
	return cfg
}

// A set without the identity, whose configuration names a folder where its own key lies, vouches for itself by nothing.
func TestFolderThatTheSetChose(t *testing.T) {
	h, to := makeHold(t, 1), folder(t)
	did, _, _ := state(t, h.cfg)
	forger := newForger(t, syntax.DID(did), h.cfg)
	_, o := keyPair(t)
	o.Recipients, o.NoIdentity, o.Layers = nil, true, false
	forger.plant(t, to, o)
	cfg := onlyIdentity(t, forger.cfg)
	dir := dataDir(t, cfg)
	restore := func(o backup.RestoreOptions) error {
		_, err := backup.Restore(t.Context(), to, "", dir, o)
		return err
	}
	if err := restore(backup.RestoreOptions{}); !errors.Is(err, backup.ErrUntrusted) {
		t.Errorf("nothing known: %v", err)
	}
	if err := restore(backup.RestoreOptions{Trust: h.trust()}); !errors.Is(err, backup.ErrUntrusted) {
		t.Errorf("the hold's key known: %v", err)
	}
	no := errors.New("no")
	var asked *backup.Claims
	err := restore(backup.RestoreOptions{Confirm: func(_ context.Context, c *backup.Claims) error { asked = c; return no }})
	if !errors.Is(err, no) || asked == nil || !errors.Is(asked.Unproven, backup.ErrUntrusted) || asked.Captain != mallory {
		t.Errorf("asked %+v: %v", asked, err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "repo.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
	// The same folder, named by who restores.
	must(t, restore(backup.RestoreOptions{OwnFolder: true, Confirm: func(context.Context, *backup.Claims) error { return no }}))
	if got, _, _ := state(t, cfg); got != did {
		t.Errorf("restored %s", got)
	}
}

// counting counts the layers that are read.
type counting struct {
	backup.Target
	layers atomic.Int64
}

func (c *counting) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if strings.HasPrefix(name, "layers/") {
		c.layers.Add(1)
	}
	return c.Target.Open(ctx, name)
}

// What lies under layers/ without a list that the hold signed is read before a set names it, in whatever state the target is.
func TestPlantedBeforeASetOfOurs(t *testing.T) {
	for what, before := range map[string]func(t *testing.T, h *made, to backup.Target, o backup.Options){
		"an empty target": func(*testing.T, *made, backup.Target, backup.Options) {},
		"the signature is gone": func(t *testing.T, h *made, to backup.Target, o backup.Options) {
			must(t, to.Delete(t.Context(), "sets/"+h.create(to, o).Name+"/manifest.sig"))
		},
		"the key was rotated": func(t *testing.T, h *made, to backup.Target, o backup.Options) {
			h.create(to, o)
			h.rotate()
		},
		"a set without layers": func(t *testing.T, h *made, to backup.Target, o backup.Options) {
			o.Layers = false
			h.create(to, o)
		},
	} {
		t.Run(what, func(t *testing.T) {
			h, to := makeHold(t, 1), folder(t)
			_, o := keyPair(t)
			before(t, h, to, o)
			h.push(1)
			plantLayer(t, to, h.layers[1], bytes.Repeat([]byte("x"), 10_001))
			m := h.create(to, o)
			if m.Layers.Count != 2 || m.Layers.Missing != 0 {
				t.Errorf("%+v", m.Layers)
			}
			must2(backup.Verify(t.Context(), to, m.Name, backup.VerifyOptions{Trust: h.trust()}))(t)
		})
	}
}

// A rotation has no layer read again that a set by the key of before lists: it is known by keys/history, or trusted.
func TestListsByKeysOfBefore(t *testing.T) {
	h, to := makeHold(t, 2), &counting{Target: folder(t)}
	_, o := keyPair(t)
	first := h.create(to, o)
	h.rotate()
	if m := h.create(to, o); to.layers.Load() != 0 || m.Layers.Copied != 0 || m.SigningKey == first.SigningKey {
		t.Errorf("keys/history: %d layers read, %+v", to.layers.Load(), m.Layers)
	}
	h.rotate()
	must(t, os.Remove(filepath.Join(h.cfg.Dir, "keys", "history")))
	o.Trusted = []string{first.SigningKey}
	if m := h.create(to, o); to.layers.Load() != 0 || m.Layers.Copied != 0 {
		t.Errorf("trusted: %d layers read, %+v", to.layers.Load(), m.Layers)
	}
	h.rotate()
	must(t, os.Remove(filepath.Join(h.cfg.Dir, "keys", "history")))
	o.Trusted = nil
	if m := h.create(to, o); to.layers.Load() != 2 || m.Layers.Copied != 0 {
		t.Errorf("unknown: %d layers read, %+v", to.layers.Load(), m.Layers)
	}
}

// The captain is who the hold takes for it, whatever other records say, and they are told.
func TestClaimsOfOtherCaptains(t *testing.T) {
	h, to := makeHold(t, 0), folder(t)
	key, o := keyPair(t)
	for _, rkey := range []string{"a", "zz"} { // before and after self
		h.apply(create(t, atcr.NSIDCaptain, rkey, atcr.Captain{Owner: mallory}))
	}
	h.create(to, o)
	var shown *backup.Claims
	cfg := config(filepath.Join(t.TempDir(), "new"))
	must2(backup.Restore(t.Context(), to, "", dataDir(t, cfg), backup.RestoreOptions{Trust: h.trust(), Keys: []age.Identity{key},
		DryRun: true, Show: func(c *backup.Claims) { shown = c }}))(t)
	if shown == nil || shown.Captain != owner || shown.OtherCaptains != 2 {
		t.Errorf("shown %+v", shown)
	}
}

// section is a block of a CAR.
func section(block []byte) []byte {
	id := repo.RecordCID(block).Bytes()
	n, size := len(id)+len(block), []byte{}
	for ; n >= 1<<7; n >>= 7 {
		size = append(size, byte(n)|1<<7)
	}
	return slices.Concat(size, []byte{byte(n)}, id, block)
}

// A record of a collection that is not normalized, which earlier versions took, keeps no hold from being backed up and restored.
func TestCollectionInCapitals(t *testing.T) {
	h, to := makeHold(t, 0), folder(t)
	did, _, seq := state(t, h.cfg)
	cbor := func(format string, args ...any) []byte {
		t.Helper()
		return must2(repo.RecordFromJSON(fmt.Appendf(nil, format, args...)))(t)
	}
	record := cbor(`{"$type":"IO.atcr.tag"}`)
	node := cbor(`{"l":null,"e":[{"p":0,"k":{"$bytes":"%s"},"v":{"$link":"%s"},"t":null}]}`, "SU8uYXRjci50YWcvYQ", repo.RecordCID(record))
	commit := fmt.Sprintf(`{"did":"%s","rev":"3lbbbbbbbbb2b","prev":null,"data":{"$link":"%s"},"version":3`, did, repo.RecordCID(node))
	sig, err := h.key().HashAndSign(cbor("%s}", commit))
	must(t, err)
	head := cbor(`%s,"sig":{"$bytes":"%s"}}`, commit, base64.RawStdEncoding.EncodeToString(sig))
	header := cbor(`{"roots":[{"$link":"%s"}],"version":1}`, repo.RecordCID(head))
	car := slices.Concat([]byte{byte(len(header))}, header, section(head), section(node), section(record))
	_, err = repo.VerifyCAR(t.Context(), repo.Source{Reader: bytes.NewReader(car), AnyKey: true})
	if err == nil || !strings.Contains(err.Error(), "IO.atcr.tag/a") || !strings.Contains(err.Error(), "deleteRecord") {
		t.Errorf("verified without AnyCase: %v", err)
	}

	old := &made{t: t, cfg: onlyIdentity(t, h.cfg)}
	r, err := datadir.BeginRestore(dataDir(t, old.cfg), syntax.DID(did), "x")
	must(t, err)
	_, err = r.Repo(t.Context(), repo.Source{Reader: bytes.NewReader(car)}, seq)
	must(t, err)
	must(t, r.Done())
	must(t, r.Close())
	_, records, seq := state(t, old.cfg)
	if len(records) != 1 || !strings.HasPrefix(records[0], "IO.atcr.tag/a ") {
		t.Fatalf("records %q", records)
	}
	key, o := keyPair(t)
	m := old.create(to, o)
	must2(backup.Verify(t.Context(), to, m.Name, backup.VerifyOptions{Trust: old.trust()}))(t)
	cfg := config(filepath.Join(t.TempDir(), "new"))
	must2(backup.Restore(t.Context(), to, "", dataDir(t, cfg), backup.RestoreOptions{Trust: old.trust(), Keys: []age.Identity{key}}))(t)
	got, again, after := state(t, cfg)
	if got != did || !slices.Equal(again, records) || after <= seq {
		t.Errorf("restored %s, %q, %d", got, again, after)
	}
	// It is deleted like any other.
	(&made{t: t, cfg: cfg}).apply(repo.Write{Action: repo.Delete, Collection: "IO.atcr.tag", RKey: "a"})
}
