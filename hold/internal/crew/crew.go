// Package crew changes the crew records of a hold's repository, and carries such changes to a running hold.
//
// A hold whose repository lies in its folder is its only writer. What another process wants is therefore a file in the folder: [Ask] makes
// one durable, the hold sees it within a second, commits the change, and [Answer] puts the outcome beside it. Changes say how a record
// shall be, so that one that is made twice, or at the next start, does no harm.
package crew

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/repo"
)

// Change is what shall become of a member.
type Change struct {
	Member      string   `json:"member"` // DID
	Remove      bool     `json:"remove,omitempty"`
	Role        string   `json:"role,omitempty"`        // empty: left as it is, and member for a new one
	Permissions []string `json:"permissions,omitempty"` // empty: left as they are, and reading and writing for a new one
	Tier        string   `json:"tier,omitempty"`        // empty: left as it is
}

// Check reports what is wrong with a change.
func (c Change) Check() error {
	if _, err := syntax.ParseDID(c.Member); err != nil {
		return fmt.Errorf("crew: member %.100q: %w", c.Member, err)
	}
	for _, p := range c.Permissions {
		if !slices.Contains([]string{atcr.PermissionBlobRead, atcr.PermissionBlobWrite, atcr.PermissionCrewAdmin}, p) {
			return fmt.Errorf("crew: permission %.100q is none of %s, %s, %s", p, atcr.PermissionBlobRead, atcr.PermissionBlobWrite,
				atcr.PermissionCrewAdmin)
		}
	}
	if len(c.Tier) > 32 || len(c.Role) > 32 {
		return errors.New("crew: tier and role have at most 32 bytes")
	}
	return nil
}

// Outcome says what a change did.
type Outcome struct {
	Did   string `json:"did"`             // added, changed, unchanged, removed, or absent for one who was no member
	Error string `json:"error,omitempty"` // it failed, and nothing changed
}

// Writes returns what makes a change of the crew's records, which are all of the collection; it is empty when nothing is to be done.
func Writes(all []repo.Record, c Change, now time.Time) (ws []repo.Write, did string, err error) {
	own := atcr.CrewRKey(c.Member)
	var have *repo.Record
	for i, rec := range all {
		var m atcr.Crew
		if js, err := rec.JSON(); err != nil || json.Unmarshal(js, &m) != nil || m.Member != c.Member {
			continue
		}
		if c.Remove {
			ws = append(ws, repo.Write{Action: repo.Delete, Collection: atcr.NSIDCrew, RKey: rec.RKey, Swap: rec.CID})
		}
		if have == nil || rec.RKey == own { // the record at the key made from the DID counts
			have = &all[i]
		}
	}
	switch {
	case c.Remove && have == nil:
		return nil, "absent", nil
	case c.Remove:
		return ws, "removed", nil
	case have == nil:
		w, err := fresh(c, own, now)
		return []repo.Write{w}, "added", err
	}
	w, err := changed(*have, c)
	if err != nil || w == nil {
		return nil, "unchanged", err
	}
	return []repo.Write{*w}, "changed", nil
}

func fresh(c Change, rkey string, now time.Time) (repo.Write, error) {
	if c.Role == "" {
		c.Role = "member"
	}
	if len(c.Permissions) == 0 {
		c.Permissions = []string{atcr.PermissionBlobRead, atcr.PermissionBlobWrite}
	}
	value := c.fields()
	value["$type"], value["member"] = atcr.NSIDCrew, c.Member
	value["addedAt"] = now.UTC().Format("2006-01-02T15:04:05.000Z")
	data, err := repo.RecordFrom(value)
	return repo.Write{Action: repo.Create, Collection: atcr.NSIDCrew, RKey: rkey, Record: data}, err
}

// changed keeps the fields that the change does not name; nil: there is nothing to write.
func changed(rec repo.Record, c Change) (*repo.Write, error) {
	js, err := rec.JSON()
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(js))
	dec.UseNumber() // whole numbers stay whole
	value := map[string]any{}
	if err := dec.Decode(&value); err != nil {
		return nil, err
	}
	maps.Copy(value, c.fields())
	delete(value, "joined") // the captain has spoken: joining again must not undo it
	data, err := repo.RecordFrom(value)
	if err != nil || bytes.Equal(data, rec.Value) {
		return nil, err
	}
	return &repo.Write{Action: repo.Update, Collection: rec.Collection, RKey: rec.RKey, Record: data, Swap: rec.CID}, nil
}

// fields are those that the change sets.
func (c Change) fields() map[string]any {
	out := map[string]any{}
	if c.Role != "" {
		out["role"] = c.Role
	}
	if len(c.Permissions) > 0 {
		out["permissions"] = c.Permissions
	}
	if c.Tier != "" {
		out["tier"] = c.Tier
	}
	return out
}

const (
	folder    = "crew" // in the data folder
	asked     = ".json"
	answered  = ".done"
	maxFile   = 64 << 10
	keepFiles = time.Hour // answers that nobody fetched
)

// Ask makes a change durable for the hold that has the folder, and returns the name by which it is answered. What root asks for
// belongs to the folder's owner, whom the hold runs as.
func Ask(dir string, c Change) (name string, err error) {
	at := filepath.Join(dir, folder)
	if err := durable.MkdirAll(at, 0o700); err != nil {
		return "", err
	}
	if st, err := os.Lstat(at); err != nil || !st.IsDir() {
		return "", errors.Join(err, fmt.Errorf("crew: %s is no folder", at))
	}
	if err := durable.SameOwner(at, dir); err != nil {
		return "", err
	}
	data, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	name = string(syntax.NewTIDNow(uint(os.Getpid()) % 1024))
	whole := filepath.Join(at, durable.TempPrefix+name)
	if err := durable.CreateFile(whole, data, 0o600); err != nil {
		return "", err
	}
	// The hold looks at any moment: the file is its own before it has the name.
	if err := durable.SameOwner(whole, dir); err != nil {
		return "", errors.Join(err, os.Remove(whole))
	}
	return name, durable.Rename(whole, filepath.Join(at, name+asked))
}

// Asked returns the names of changes that wait, the oldest first. One that was answered waits no more: a hold that ended between the
// two steps of [Answer] must not make it again, since others may have been made after it.
func Asked(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	over := map[string]bool{}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), answered); ok {
			over[name] = true
		}
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), asked)
		switch {
		case !ok || strings.HasPrefix(name, "."):
		case over[name]:
			if err := TakeBack(dir, name); err != nil {
				return nil, err
			}
		default:
			names = append(names, name)
		}
	}
	return names, nil
}

// Supersede removes the changes of a member that wait, for who has just made another: they are older, and the next start would undo
// that one.
func Supersede(dir, member string) error {
	names, err := Asked(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		c, err := Read(dir, name)
		if err != nil || c.Member != member {
			continue // what can't be read can't be made either
		}
		if err := TakeBack(dir, name); err != nil {
			return err
		}
	}
	return nil
}

// Read returns a change that waits; fs.ErrNotExist when it was taken back.
func Read(dir, name string) (c Change, err error) {
	path := filepath.Join(dir, folder, name+asked)
	st, err := os.Stat(path)
	if err != nil {
		return c, err
	}
	if st.Size() > maxFile {
		return c, fmt.Errorf("crew: %s has %d bytes, the limit is %d", path, st.Size(), maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("crew: %s: %w", path, err)
	}
	return c, c.Check()
}

// Answer puts the outcome where who asked looks for it, and removes the change.
func Answer(dir, name string, o Outcome) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, folder, name)
	if err := durable.WriteFile(path+answered, data, 0o600); err != nil {
		return err
	}
	if err := durable.Remove(path + asked); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Answered returns the outcome and removes it; ok is false while there is none.
func Answered(dir, name string) (o Outcome, ok bool, err error) {
	path := filepath.Join(dir, folder, name+answered)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return o, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	if err == nil {
		err = TakeBack(dir, name) // a hold that was killed has left it
	}
	if err != nil {
		return o, false, err
	}
	return o, true, os.Remove(path)
}

// TakeBack removes a change that nobody needs any more.
func TakeBack(dir, name string) error {
	err := durable.Remove(filepath.Join(dir, folder, name+asked))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Tidy removes answers that nobody fetched within an hour, and what a crash left of files being written.
func Tidy(dir string, now time.Time) error {
	dir = filepath.Join(dir, folder)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		rest := strings.HasSuffix(e.Name(), answered) || strings.HasPrefix(e.Name(), durable.TempPrefix)
		if st, err := e.Info(); err == nil && rest && now.Sub(st.ModTime()) > keepFiles {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
