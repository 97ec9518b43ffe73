package backup

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
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
	// ErrUntrusted: the set is signed, by a key that [Trust] does not know as the hold's.
	ErrUntrusted = errors.New("the backup is not known to be the hold's own")
	// ErrUnsigned: the set was made before sets were signed: anybody who can write to the target may have made it.
	ErrUnsigned = errors.New("the backup is not signed")
	// ErrOld: the set is older than it should be, or than another one at the target, or is dated more than a day from now.
	ErrOld = errors.New("the backup is old")
	// ErrSeq: the set's event number is far ahead of its time. Followers that saw such a number ignore the hold for good.
	ErrSeq = errors.New("the event number of the backup is ahead of its time")
	// ErrFormat: the set is of a version that this program does not know.
	ErrFormat = errors.New("unknown format of a backup")
)

const (
	format         = "atcr-backup-2"
	formatUnsigned = "atcr-backup-1" // read only
)

// Names of a set's files.
const (
	setsFolder    = "sets/"
	layersFolder  = "layers/"
	manifestFile  = "manifest.json"
	signatureFile = "manifest.sig"
	repoFile      = "repo.car"
	identityFile  = "identity.age"
	notesFile     = "notes.jsonl"
	layersFile    = "layers.txt"
	configFile    = "config.yaml"

	maxManifest  = 1 << 20
	maxSignature = 1 << 10
	maxText      = 256 // of each text in a manifest that has no form of its own
	nameLayout   = "20060102T150405.000000Z"
)

// fileNames are those that a manifest names.
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
	SigningKey string     `json:"signingKey"` // did:key; it signed the commit and this manifest
	Rev        string     `json:"rev"`
	Commit     string     `json:"commit"`
	Seq        int64      `json:"seq"` // no event had a higher number
	Records    int64      `json:"records"`

	Files  []File  `json:"files"`
	Layers *Layers `json:"layers,omitempty"` // nil: made without layers

	Sum string `json:"sum,omitempty"` // of a set that is not signed: sha256 of this file with an empty sum
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

// Signed reports whether the set is signed by its SigningKey. Whose key that is, [Trust] says.
func (m *Manifest) Signed() bool { return m.Format == format }

// signedText is what the key signs. It signs commits and tokens, too: none of them begins so.
func signedText(manifest []byte) []byte { return append([]byte(format+"\n"), manifest...) }

// encode returns the manifest and its signature, as they are written.
func (m *Manifest) encode(key atcrypto.PrivateKey) (text, signature []byte, err error) {
	m.Format, m.Sum = format, ""
	if text, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, nil, err
	}
	sig, err := key.HashAndSign(signedText(text))
	if err != nil {
		return nil, nil, err
	}
	return text, []byte(encodeSignature(sig)), nil
}

// encodeSignature is the text of manifest.sig.
func encodeSignature(sig []byte) string { return base64.RawURLEncoding.EncodeToString(sig) + "\n" }

// signed reports why the signature is not that of the key which the manifest names, or nil.
func (m *Manifest) signed(key atcrypto.PublicKey, text, signature []byte) error {
	if signature == nil {
		return errors.New(signatureFile + " is gone")
	}
	sig, err := base64.RawURLEncoding.DecodeString(string(bytes.TrimSuffix(signature, []byte("\n"))))
	if err == nil {
		err = key.HashAndVerify(signedText(text), sig)
	}
	if err != nil || encodeSignature(sig) != string(signature) {
		return errors.New(signatureFile + " does not belong to it: its key has not signed these bytes")
	}
	return nil
}

// unsigned reports why the sum of a set of before is wrong, or nil.
func (m *Manifest) unsigned(text []byte) error {
	sum := sha256.Sum256(bytes.Replace(text, []byte(`"sum": "`+m.Sum+`"`), []byte(`"sum": ""`), 1))
	if m.Sum != hex.EncodeToString(sum[:]) {
		return errors.New("its sum is wrong")
	}
	return nil
}

// parseManifest reads a manifest that belongs to the set of this name. Who signed it is not known to be trusted.
func parseManifest(name string, b, signature []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, setsFolder+name+"/"+manifestFile, err)
	}
	if m.Format != format && m.Format != formatUnsigned {
		return nil, fmt.Errorf("%w: %s is %.40q, this program reads %q and %q", ErrFormat, name, m.Format, format, formatUnsigned)
	}
	damaged := func(why string) error {
		return fmt.Errorf("%w: %s: %s", ErrDamaged, setsFolder+name+"/"+manifestFile, why)
	}
	key, err := atcrypto.ParsePublicDIDKey(m.SigningKey)
	if err != nil || key.DIDKey() != m.SigningKey {
		return nil, damaged("its signingKey is none")
	}
	if m.Signed() {
		err = m.signed(key, b, signature)
	} else {
		err = m.unsigned(b)
	}
	if err != nil {
		return nil, damaged(err.Error())
	}
	if m.Name != name {
		return nil, damaged(fmt.Sprintf("it is of the set %.40q", m.Name))
	}
	for _, text := range []string{m.Version, m.Commit, m.Sum} {
		if text != plain(text) {
			return nil, damaged("its version, commit or sum is long or can't be printed")
		}
	}
	for _, f := range m.Files {
		sum, err := hex.DecodeString(f.SHA256)
		if !slices.Contains(fileNames, f.Name) || f.Size < 0 || err != nil || len(sum) != sha256.Size {
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

// plain is a text as a manifest may have it: what can't be printed is left out, and what is over maxText cut off.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "")
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

// signedBy reports whether it is whole and signed by one of these keys.
func (s *Set) signedBy(keys ...string) bool {
	return s.Whole() && s.Manifest.Signed() && slices.Contains(keys, s.Manifest.SigningKey)
}

// List returns the sets of a target, the newest first, those that were broken off among them. Only manifests are read.
func List(ctx context.Context, t Target) ([]Set, error) { return listAfter(ctx, t, "") }

// listAfter is List of the sets whose names are above one.
func listAfter(ctx context.Context, t Target, last string) ([]Set, error) {
	var sets []Set
	for e, err := range t.List(ctx, setsFolder) {
		if err != nil {
			return nil, err
		}
		name, file, ok := strings.Cut(strings.TrimPrefix(e.Name, setsFolder), "/")
		if !ok || !isSetName(name) || name <= last ||
			file != manifestFile && file != signatureFile && !slices.Contains(fileNames, file) {
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

// readManifest reads a manifest and its signature. One that is not there is fs.ErrNotExist.
func readManifest(ctx context.Context, t Target, name string) (*Manifest, error) {
	text, err := readSmall(ctx, t, setsFolder+name+"/"+manifestFile, maxManifest)
	if err != nil {
		return nil, err
	}
	signature, err := readSmall(ctx, t, setsFolder+name+"/"+signatureFile, maxSignature)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a set of before has none
		return nil, err
	}
	return parseManifest(name, text, signature)
}

func readSmall(ctx context.Context, t Target, name string, limit int64) ([]byte, error) {
	r, err := t.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrDamaged, name, limit)
	}
	return b, nil
}
