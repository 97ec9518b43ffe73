package backup

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Errors. Those of datadir.BeginRestore and identity/backup come through as they are.
var (
	// ErrNoSet: there is no set, or none of that name.
	ErrNoSet = errors.New("no such backup")
	// ErrDamaged: a file of a set is missing or is not what it was. The error names it.
	ErrDamaged = errors.New("the backup is damaged")
	// ErrNoIdentity: the set holds no identity, or nobody was named who may read it.
	ErrNoIdentity = errors.New("the backup is without the identity")
	// ErrForeign: the target holds the backups of another hold.
	ErrForeign = errors.New("the target holds backups of another hold")
	// ErrFormat: the set is of a version that this program does not know.
	ErrFormat = errors.New("unknown format of a backup")
)

const format = "atcr-backup-1"

// Names of a set's files.
const (
	setsFolder   = "sets/"
	layersFolder = "layers/"
	manifestFile = "manifest.json"
	repoFile     = "repo.car"
	identityFile = "identity.age"
	notesFile    = "notes.jsonl"
	layersFile   = "layers.txt"
	configFile   = "config.yaml"

	maxManifest = 1 << 20
	nameLayout  = "20060102T150405.000000Z"
)

var fileNames = []string{repoFile, identityFile, notesFile, layersFile, configFile}

// isSetName reports whether a name is a moment as we write it, so that the next set's can be made from it.
func isSetName(name string) bool {
	at, err := time.Parse(nameLayout, name)
	return err == nil && at.Format(nameLayout) == name
}

// Manifest says what a set is and what is in it.
type Manifest struct {
	Format  string    `json:"format"`
	Name    string    `json:"name"` // of the set; sets sort by it
	Created time.Time `json:"created"`
	Version string    `json:"version,omitempty"` // of the program that made it

	DID        syntax.DID `json:"did"`
	SigningKey string     `json:"signingKey"` // did:key; it signed the commit
	Rev        string     `json:"rev"`
	Commit     string     `json:"commit"`
	Seq        int64      `json:"seq"` // no event had a higher number
	Records    int64      `json:"records"`

	Files  []File  `json:"files"`
	Layers *Layers `json:"layers,omitempty"` // nil: made without layers

	Sum string `json:"sum"` // sha256 of this file with an empty sum
}

// File is a file of a set.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Layers sums up the layers of a set.
type Layers struct {
	Count   int64 `json:"count"`
	Bytes   int64 `json:"bytes"`
	Copied  int64 `json:"copied"`            // by this backup; the others were at the target
	Missing int64 `json:"missing,omitempty"` // named by records, but lost by the hold
}

// HasIdentity reports whether the set holds DID and keys.
func (m *Manifest) HasIdentity() bool { return m.file(identityFile) != nil }

func (m *Manifest) file(name string) *File {
	for i := range m.Files {
		if m.Files[i].Name == name {
			return &m.Files[i]
		}
	}
	return nil
}

func (m *Manifest) path(file string) string { return setsFolder + m.Name + "/" + file }

func (m *Manifest) encode() ([]byte, error) {
	m.Format, m.Sum = format, ""
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	m.Sum = hex.EncodeToString(sum[:])
	return bytes.Replace(b, []byte(`"sum": ""`), []byte(`"sum": "`+m.Sum+`"`), 1), nil
}

func parseManifest(name string, b []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, setsFolder+name+"/"+manifestFile, err)
	}
	if m.Format != format {
		return nil, fmt.Errorf("%w: %s is %.40q, this program reads %q", ErrFormat, name, m.Format, format)
	}
	damaged := func(why string) error {
		return fmt.Errorf("%w: %s: %s", ErrDamaged, setsFolder+name+"/"+manifestFile, why)
	}
	sum := sha256.Sum256(bytes.Replace(b, []byte(`"sum": "`+m.Sum+`"`), []byte(`"sum": ""`), 1))
	if m.Sum != hex.EncodeToString(sum[:]) {
		return nil, damaged("its sum is wrong")
	}
	if m.Name != name {
		return nil, damaged(fmt.Sprintf("it is of the set %.40q", m.Name))
	}
	for _, f := range m.Files {
		if !slices.Contains(fileNames, f.Name) || f.Size < 0 || len(f.SHA256) != 64 {
			return nil, damaged(fmt.Sprintf("it has a file %.40q", f.Name))
		}
	}
	if m.file(repoFile) == nil || (m.Layers != nil) != (m.file(layersFile) != nil) {
		return nil, damaged("a file is not in it")
	}
	if _, err := syntax.ParseDID(m.DID.String()); err != nil {
		return nil, damaged("its DID is none")
	}
	if _, err := syntax.ParseTID(m.Rev); err != nil {
		return nil, damaged("its revision is none")
	}
	return &m, nil
}

// Set is what lies under one name at a target.
type Set struct {
	Name     string
	Manifest *Manifest // nil: not whole, or with Err
	Err      error     // its manifest can't be read
	Bytes    int64     // of its files, without layers

	files []string
}

// Whole reports whether the set counts.
func (s *Set) Whole() bool { return s.Manifest != nil }

// List returns the sets of a target, the newest first, those that were broken off among them. Only manifests are read.
func List(ctx context.Context, t Target) ([]Set, error) {
	var sets []Set
	for e, err := range t.List(ctx, setsFolder) {
		if err != nil {
			return nil, err
		}
		name, file, ok := strings.Cut(strings.TrimPrefix(e.Name, setsFolder), "/")
		if !ok || !isSetName(name) || file != manifestFile && !slices.Contains(fileNames, file) {
			continue // not ours
		}
		if len(sets) == 0 || sets[len(sets)-1].Name != name {
			sets = append(sets, Set{Name: name})
		}
		s := &sets[len(sets)-1]
		s.files = append(s.files, e.Name)
		s.Bytes += e.Size
		if file == manifestFile {
			s.Manifest, s.Err = readManifest(ctx, t, name)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	slices.SortFunc(sets, func(a, b Set) int { return cmp.Compare(b.Name, a.Name) })
	return sets, nil
}

// Find returns a set by its name, or the newest one for an empty name. Errors: [ErrNoSet], [ErrDamaged], [ErrFormat].
func Find(ctx context.Context, t Target, name string) (*Manifest, error) {
	if name != "" {
		if !isSetName(name) {
			return nil, fmt.Errorf("%w: %q is no name of a set; they are like %s", ErrNoSet, name, nameLayout)
		}
		m, err := readManifest(ctx, t, name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s has no whole set %s", ErrNoSet, t, name)
		}
		return m, err
	}
	sets, err := List(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		if s.Whole() || s.Err != nil { // an older one is taken by name only
			return s.Manifest, s.Err
		}
	}
	return nil, fmt.Errorf("%w: %s holds none that is whole", ErrNoSet, t)
}

func readManifest(ctx context.Context, t Target, name string) (*Manifest, error) {
	r, err := t.Open(ctx, setsFolder+name+"/"+manifestFile)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if len(b) > maxManifest {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrDamaged, setsFolder+name+"/"+manifestFile, maxManifest)
	}
	return parseManifest(name, b)
}
