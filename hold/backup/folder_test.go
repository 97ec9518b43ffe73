package backup_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/backup/targettest"
)

func TestFolder(t *testing.T) {
	targettest.Run(t, folder(t))
}

// Who may write to the folder leads nobody elsewhere by a symbolic link, out of it or within it: nothing is written, read or removed there.
func TestFolderLinks(t *testing.T) {
	outside := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(outside, "20260101T000000.000000Z"), 0o700))
	secret := filepath.Join(outside, "20260101T000000.000000Z", "manifest.json")
	must(t, os.WriteFile(secret, []byte("mine"), 0o600))
	for what, c := range map[string]struct{ link, to string }{
		"top":          {"sets", outside},
		"relative":     {"sets", "../" + filepath.Base(outside)},
		"within":       {"sets", "other"},
		"a set":        {"sets/20260101T000000.000000Z", filepath.Dir(secret)},
		"a file":       {"sets/20260101T000000.000000Z/manifest.json", secret},
		"broken":       {"sets", filepath.Join(outside, "nothing")},
		"broken, file": {"sets/20260101T000000.000000Z/manifest.json", filepath.Join(outside, "nothing")},
	} {
		t.Run(what, func(t *testing.T) {
			to := folder(t)
			inner := filepath.Join(to.String(), "other", "20260101T000000.000000Z")
			must(t, os.MkdirAll(inner, 0o700))
			must(t, os.WriteFile(filepath.Join(inner, "manifest.json"), []byte("mine"), 0o600))
			must(t, os.MkdirAll(filepath.Join(to.String(), filepath.Dir(c.link)), 0o700))
			must(t, os.Symlink(c.to, filepath.Join(to.String(), c.link)))
			name := "sets/20260101T000000.000000Z/manifest.json"

			r, err := to.Open(t.Context(), name)
			if err == nil || !strings.Contains(err.Error(), "is a symbolic link: it is not followed") {
				t.Errorf("open: %v, %v", r, err)
			}
			for e, err := range to.List(t.Context(), "sets/") {
				if err == nil || !strings.Contains(err.Error(), "symbolic link") {
					t.Errorf("list: %v, %v", e, err)
				}
			}
			err = to.Put(t.Context(), name, strings.NewReader("new"), 3)
			if filepath.Base(c.link) != "manifest.json" { // else the link itself is replaced
				if err == nil || !strings.Contains(err.Error(), "symbolic link") {
					t.Errorf("put: %v", err)
				}
				if err := to.Delete(t.Context(), name); err == nil || !strings.Contains(err.Error(), "symbolic link") {
					t.Errorf("delete: %v", err)
				}
			} else {
				must(t, err)
				must(t, to.Delete(t.Context(), name))
			}
			for _, path := range []string{secret, filepath.Join(inner, "manifest.json")} {
				if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
					t.Errorf("%s: %q, %v", path, b, err)
				}
			}
			if _, err := os.Stat(filepath.Join(outside, "nothing")); err == nil {
				t.Error("a file was made outside")
			}
			left, err := filepath.Glob(filepath.Join(to.String(), ".tmp-*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// The folder itself may be a link: its owner chose it. Neither devices nor pipes are read.
func TestFolderItself(t *testing.T) {
	real := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(real, link))
	to, err := backup.OpenFolder(link)
	must(t, err)
	targettest.Run(t, to)
	must(t, os.Symlink("/dev/zero", filepath.Join(real, "sets", "zero")))
	must(t, os.Mkdir(filepath.Join(real, "sets", "folder"), 0o700))
	for _, name := range []string{"sets/zero", "sets/folder"} {
		if _, err := to.Open(t.Context(), name); err == nil {
			t.Errorf("%s opens", name)
		}
	}
}

// A target into which somebody put a link makes no backup that is not there, and removes nothing behind the link.
func TestCreateIntoLinks(t *testing.T) {
	h, to := makeHold(t, 1), folder(t)
	key, o := keyPair(t)
	outside := t.TempDir()
	must(t, os.Symlink(outside, filepath.Join(to.String(), "layers")))
	p := h.parts()
	if m, err := backup.Create(t.Context(), to, p, o); err == nil || !strings.Contains(err.Error(), "layers is a symbolic link") {
		t.Errorf("set %+v, %v", m, err)
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) > 0 {
		t.Errorf("written there: %v, %v", entries, err)
	}
	must(t, os.Remove(filepath.Join(to.String(), "layers")))
	m := h.create(to, o)
	// A layer of a good set is led elsewhere, to the same bytes: it is not there.
	layer := layerFile(filepath.Join(to.String(), "layers"), h.layers[0])
	must(t, os.Rename(layer, filepath.Join(outside, "data")))
	must(t, os.Symlink(filepath.Join(outside, "data"), layer))
	_, err = backup.Verify(t.Context(), to, m.Name, backup.VerifyOptions{Trust: h.trust(), Keys: []age.Identity{key}})
	if err == nil || !strings.Contains(err.Error(), h.layers[0].Encoded()) {
		t.Errorf("verify: %v", err)
	}
	if _, err := os.Stat(filepath.Join(outside, "data")); err != nil {
		t.Error(err)
	}
}
