package atcr

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/lexicon"
)

func catalog(t *testing.T) *lexicon.BaseCatalog {
	t.Helper()
	c := lexicon.NewBaseCatalog()
	if err := c.LoadDirectory("lexicons"); err != nil {
		t.Fatal(err)
	}
	return c
}

// Each file is a lexicon that indigo takes, lies where its name says, allows sha512 digests, and names an NSID of ours.
func TestLexiconFiles(t *testing.T) {
	source, err := os.ReadFile("atcr.go")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	err = filepath.WalkDir("lexicons", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var file lexicon.SchemaFile
		if err := json.Unmarshal(raw, &file); err != nil {
			t.Errorf("%s: %v", path, err)
			return nil
		}
		if err := file.FinishParse(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if err := file.CheckSchema(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if want := filepath.Join("lexicons", filepath.Join(strings.Split(file.ID, ".")...)+".json"); path != want {
			t.Errorf("%s lies in %s", file.ID, path)
		}
		if !strings.Contains(string(source), `"`+file.ID+`"`) {
			t.Errorf("%s has no constant", file.ID)
		}
		named[file.ID] = true
		var tree any
		if err := json.Unmarshal(raw, &tree); err != nil {
			return err
		}
		checkDigests(t, path, tree)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(source)) {
		if _, rest, ok := strings.Cut(line, `"io.atcr.`); ok {
			if nsid := "io.atcr." + strings.SplitN(rest, `"`, 2)[0]; !named[nsid] {
				t.Errorf("%s has no lexicon", nsid)
			}
		}
	}
}

func checkDigests(t *testing.T, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, sub := range v {
			if m, ok := sub.(map[string]any); ok && strings.HasSuffix(strings.ToLower(k), "digest") && m["type"] == "string" &&
				m["maxLength"] != 135.0 {
				t.Errorf("%s: %s takes %v bytes, a sha512 digest has 135", path, k, m["maxLength"])
			}
			checkDigests(t, path, sub)
		}
	case []any:
		for _, sub := range v {
			checkDigests(t, path, sub)
		}
	}
}

// Every field of a Go type is in the lexicon and the other way round, with the same kind, limit and requiredness.
func TestTypesAgreeWithLexicons(t *testing.T) {
	cat := catalog(t)
	objects := map[string]any{
		NSIDManifest + "#blobReference":     &BlobReference{},
		NSIDManifest + "#manifestReference": &ManifestReference{},
		NSIDManifest + "#platform":          &Platform{},
	}
	for _, nsid := range []string{NSIDManifest, NSIDTag, NSIDRepoPage, NSIDProfile, NSIDStar, NSIDCaptain, NSIDCrew, NSIDLayer,
		NSIDStats, NSIDScan} {
		objects[nsid] = NewRecord(nsid)
	}
	for ref, value := range objects {
		schema, err := cat.Resolve(ref)
		if err != nil {
			t.Fatal(err)
		}
		var object lexicon.SchemaObject
		switch def := schema.Def.(type) {
		case lexicon.SchemaRecord:
			object = def.Record
		case lexicon.SchemaObject:
			object = def
		default:
			t.Fatalf("%s is a %T", ref, def)
		}
		compareObject(t, ref, reflect.TypeOf(value).Elem(), object)
	}
}

func compareObject(t *testing.T, ref string, typ reflect.Type, object lexicon.SchemaObject) {
	seen := map[string]bool{}
	for i := range typ.NumField() {
		field := typ.Field(i)
		name, optional := fieldName(field)
		if name == "" {
			continue
		}
		seen[name] = true
		def, ok := object.Properties[name]
		if !ok {
			t.Errorf("%s: %s is not in the lexicon", ref, name)
			continue
		}
		if required := slices.Contains(object.Required, name); required == optional {
			t.Errorf("%s: %s: required is %v in the lexicon, %v in Go", ref, name, required, !optional)
		}
		if got, want := goKind(field.Type), lexiconKind(def); got != want {
			t.Errorf("%s: %s is %s in Go, %s in the lexicon", ref, name, got, want)
		}
		if s, ok := def.Inner.(lexicon.SchemaString); ok {
			limit := ""
			if s.MaxLength != nil {
				raw, _ := json.Marshal(*s.MaxLength)
				limit = string(raw)
			}
			if got := field.Tag.Get("max"); got != limit {
				t.Errorf("%s: %s: limit is %q in Go, %q in the lexicon", ref, name, got, limit)
			}
		}
	}
	for name := range object.Properties {
		if !seen[name] {
			t.Errorf("%s: %s is not in the Go type", ref, name)
		}
	}
}

func goKind(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[Datetime]():
		return "datetime"
	case t == reflect.TypeFor[Blob]():
		return "blob"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Slice:
		return "array of " + goKind(t.Elem())
	case reflect.Map:
		return "unknown"
	case reflect.Struct:
		return "#" + strings.ToLower(t.Name())
	}
	return t.String()
}

func lexiconKind(def lexicon.SchemaDef) string {
	switch d := def.Inner.(type) {
	case lexicon.SchemaString:
		if d.Format != nil && *d.Format == "datetime" {
			return "datetime"
		}
		return "string"
	case lexicon.SchemaBoolean:
		return "boolean"
	case lexicon.SchemaInteger:
		return "integer"
	case lexicon.SchemaArray:
		return "array of " + lexiconKind(d.Items)
	case lexicon.SchemaUnknown:
		return "unknown"
	case lexicon.SchemaBlob:
		return "blob"
	case lexicon.SchemaRef:
		_, name, _ := strings.Cut(d.Ref, "#")
		return "#" + strings.ToLower(name)
	}
	return reflect.TypeOf(def.Inner).String()
}

// What the types write with every field set is valid by the lexicon.
func TestRecordsAreValidByLexicon(t *testing.T) {
	cat := catalog(t)
	const cid = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
	const now = "2026-01-01T00:00:00.000Z"
	uri := "at://" + didA + "/io.atcr.manifest/" + hexA
	ref := BlobReference{MediaType: "a/b", Size: 1, Digest: "sha512:" + hexA + hexA, URLs: []string{"https://x.test/y"},
		Annotations: map[string]string{"a": "b"}}
	blob := func(mime string) *Blob { return &Blob{CID: cid, MimeType: mime, Size: 7} }
	for _, r := range []Record{
		&Manifest{Repository: "app", Digest: "sha512:" + hexA + hexA, MediaType: "application/a+json", SchemaVersion: 2, Config: &ref,
			Layers: []BlobReference{ref}, Subject: &ref,
			Manifests: []ManifestReference{{MediaType: "a/b", Size: 1, Digest: "sha256:" + hexA,
				Platform: &Platform{Architecture: "a", OS: "b", OSVersion: "c", OSFeatures: []string{"d"}, Variant: "e"}}},
			Annotations: map[string]string{"a": "b"}, HoldDID: "did:web:localhost%3A8080", ManifestBlob: blob("application/a+json"), CreatedAt: now},
		&Tag{Repository: "app", Tag: "v1", Manifest: uri, MediaType: "a/b", UpdatedAt: now},
		&RepoPage{Repository: "app", Description: "# x", Avatar: blob("image/png"), UserEdited: true, CreatedAt: now, UpdatedAt: now},
		&SailorProfile{DefaultHold: didA, AutoRemoveUntagged: true, OCIClient: "docker", RegistryDomain: "x.test", CreatedAt: now,
			UpdatedAt: now},
		&Star{Subject: StarSubject("at://" + didA + "/io.atcr.repo.page/app"), CreatedAt: now},
		&Captain{Owner: didA, DeployedAt: now, Region: "r", Successor: didA, SupporterBadgeTiers: []string{"t"}},
		&Crew{Member: didA, Role: "member", AddedAt: now, Joined: true},
		&Layer{Digest: "sha256:" + hexA, Size: 1, MediaType: "a/b", Manifest: uri, UserDID: didA, CreatedAt: now},
		&Stats{OwnerDID: didA, Repository: "app", LastPull: now, LastPush: now, UpdatedAt: now},
		&Scan{Manifest: uri, Repository: "app", UserDID: didA, ScannerVersion: "1", ScannedAt: now,
			SBOMBlob: blob("application/spdx+json"), VulnReportBlob: blob("application/vnd.atcr.vulnerabilities+json"), Status: "ok", Reason: "r"},
	} {
		if err := r.Check(); err != nil {
			t.Error(err)
		}
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		data, err := atdata.UnmarshalJSON(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if err := lexicon.ValidateRecord(cat, data, r.NSID(), 0); err != nil {
			t.Errorf("%s: %v", r.NSID(), err)
		}
	}
}
