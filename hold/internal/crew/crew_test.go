package crew

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/repo"
)

const (
	alice = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	bob   = "did:web:bob.test"
)

func record(t *testing.T, rkey, json string) repo.Record {
	t.Helper()
	value, err := repo.RecordFromJSON([]byte(json))
	if err != nil {
		t.Fatal(err)
	}
	return repo.Record{Collection: atcr.NSIDCrew, RKey: rkey, CID: repo.BlobCID(value), Value: value}
}

// TestWrites: a change keeps what it does not name, finds a member under whatever key, and does nothing twice.
func TestWrites(t *testing.T) {
	own := atcr.CrewRKey(alice)
	full := `{"$type":"io.atcr.hold.crew","member":"` + alice +
		`","role":"member","permissions":["blob:read"],"tier":"deckhand","addedAt":"2026-01-01T00:00:00.000Z","more":18446744073709}`
	at := record(t, own, full)
	joined := record(t, own, `{"$type":"io.atcr.hold.crew","member":"`+alice+`","role":"member","permissions":["blob:read"],"joined":true}`)
	elsewhere := record(t, "3abc", full)
	other := record(t, "x", `{"$type":"io.atcr.hold.crew","member":"`+bob+`"}`)
	broken := record(t, "y", `{"$type":"io.atcr.hold.crew","member":7}`)
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		all  []repo.Record
		c    Change
		did  string
		want []string // action, key and what the record holds
	}{
		{"new", []repo.Record{other, broken}, Change{Member: alice}, "added",
			[]string{"create " + own + ` "addedAt":"2026-05-01T00:00:00.000Z" "permissions":["blob:read","blob:write"] "role":"member" "member":"` + alice + `"`}},
		{"new with rights", nil, Change{Member: alice, Permissions: []string{"crew:admin"}, Tier: "bosun"}, "added",
			[]string{"create " + own + ` "permissions":["crew:admin"] "tier":"bosun"`}},
		{"nothing named", []repo.Record{at}, Change{Member: alice}, "unchanged", nil},
		{"as it is", []repo.Record{at}, Change{Member: alice, Tier: "deckhand", Permissions: []string{"blob:read"}}, "unchanged", nil},
		{"tier", []repo.Record{other, at}, Change{Member: alice, Tier: "bosun"}, "changed",
			[]string{"update " + own + ` "tier":"bosun" "permissions":["blob:read"] "more":18446744073709 2026-01-01`}},
		{"elsewhere", []repo.Record{elsewhere}, Change{Member: alice, Tier: "bosun"}, "changed", []string{`update 3abc "tier":"bosun"`}},
		{"own key counts", []repo.Record{elsewhere, at}, Change{Member: alice, Tier: "bosun"}, "changed",
			[]string{"update " + own + ` "tier":"bosun"`}},
		{"the captain's word on one who joined", []repo.Record{joined}, Change{Member: alice, Permissions: []string{"blob:read"}}, "changed",
			[]string{"update " + own + ` "permissions":["blob:read"] "role":"member"`}},
		{"remove all", []repo.Record{elsewhere, other, at}, Change{Member: alice, Remove: true}, "removed",
			[]string{"delete 3abc", "delete " + own}},
		{"nobody", []repo.Record{other, broken}, Change{Member: alice, Remove: true}, "absent", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws, did, err := Writes(c.all, c.c, now)
			if err != nil || did != c.did || len(ws) != len(c.want) {
				t.Fatal(did, ws, err)
			}
			for i, w := range ws {
				text := string(w.Action) + " " + w.RKey
				if w.Action != repo.Delete {
					js, err := repo.RecordToJSON(w.Record)
					if err != nil {
						t.Fatal(err)
					}
					text += " " + string(js)
				}
				if w.Action != repo.Create && !w.Swap.Defined() {
					t.Error("it would overwrite what somebody else wrote meanwhile")
				}
				for j, want := range strings.Fields(c.want[i]) {
					if j < 2 && strings.Fields(text)[j] != want || !strings.Contains(text, want) {
						t.Errorf("no %s in %s", want, text)
					}
				}
			}
		})
	}
}

// TestAsk: what is asked stays until it is answered, and the answer until it is fetched.
func TestAsk(t *testing.T) {
	dir := t.TempDir()
	if names, err := Asked(dir); err != nil || len(names) > 0 {
		t.Fatal(names, err)
	}
	name, err := Ask(dir, Change{Member: alice, Tier: "x"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := Ask(dir, Change{Member: bob, Remove: true})
	if err != nil {
		t.Fatal(err)
	}
	if names, err := Asked(dir); err != nil || len(names) != 2 || names[0] != name || names[1] != second {
		t.Fatal(names, err)
	}
	if c, err := Read(dir, second); err != nil || c.Member != bob || !c.Remove {
		t.Fatal(c, err)
	}
	if err := TakeBack(dir, second); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir, second); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if _, ok, err := Answered(dir, name); ok || err != nil {
		t.Fatal(ok, err)
	}
	for range 2 { // a hold that was killed before it removed the question answers again
		if err := Answer(dir, name, Outcome{Did: "added"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := Tidy(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	if out, ok, err := Answered(dir, name); !ok || err != nil || out.Did != "added" {
		t.Fatal(out, ok, err)
	}
	if err := Answer(dir, name, Outcome{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "crew", "bad.json"), []byte(`{"member":"alice"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir, "bad"); err == nil || !strings.Contains(err.Error(), "member") {
		t.Error(err)
	}
	if err := Tidy(dir, time.Now().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "crew")); err != nil || len(entries) != 1 {
		t.Error("left over:", entries, err)
	}
}

// TestAnsweredOnce: a hold that is killed between the two steps of an answer makes the change no second time, whether who asked has
// fetched the answer or not: another change may have been made after it.
func TestAnsweredOnce(t *testing.T) {
	for _, fetched := range []bool{true, false} {
		dir := t.TempDir()
		name, err := Ask(dir, Change{Member: alice})
		if err != nil {
			t.Fatal(err)
		}
		question := filepath.Join(dir, "crew", name+".json")
		text, err := os.ReadFile(question)
		if err == nil {
			err = Answer(dir, name, Outcome{Did: "added"})
		}
		if err == nil {
			err = os.WriteFile(question, text, 0o600) // as if it had not been removed
		}
		if err != nil {
			t.Fatal(err)
		}
		if fetched {
			if _, ok, err := Answered(dir, name); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		if names, err := Asked(dir); err != nil || len(names) > 0 {
			t.Errorf("fetched %v: it waits again: %v, %v", fetched, names, err)
		}
		if _, err := os.Stat(question); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("fetched %v: the question is still there: %v", fetched, err)
		}
	}
}

// TestAskThroughLink: root writes nothing where a link in the folder leads.
func TestAskThroughLink(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(dir, "crew")); err != nil {
		t.Skip(err)
	}
	if _, err := Ask(dir, Change{Member: alice}); err == nil {
		t.Error("asked")
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 {
		t.Error(entries, err)
	}
}
