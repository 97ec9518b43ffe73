package atcr

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	hexA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	didA = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
)

// Each case is read and must be written as want, or unchanged when want is empty.
func TestRecordsRoundTrip(t *testing.T) {
	cases := []struct{ name, nsid, in, want string }{
		{"tag, new", NSIDTag, `{"$type":"io.atcr.tag","repository":"app","tag":"v1","manifest":"at://` + didA + `/io.atcr.manifest/` +
			hexA + `","updatedAt":"2026-01-01T00:00:00.5Z"}`, ""},
		{"tag, old", NSIDTag, `{"$type":"io.atcr.tag","repository":"app","tag":"v1","manifestDigest":"sha256:` + hexA +
			`","createdAt":"2025-10-01T00:00:00Z"}`, ""},
		{"unknown fields", NSIDTag, `{"$type":"io.atcr.tag","repository":"app","tag":"v1","a":{"$link":"bafy"},"z":[1.0,null]}`, ""},
		{"no $type", NSIDTag, `{"repository":"app","tag":"v1"}`, `{"$type":"io.atcr.tag","repository":"app","tag":"v1"}`},
		{"other capitals are another field", NSIDTag, `{"$type":"io.atcr.tag","repository":"app","tag":"v1","Tag":"v2"}`, ""},
		{"manifest with unknown fields inside", NSIDManifest, `{"$type":"io.atcr.manifest","repository":"app","digest":"sha256:` + hexA +
			`","mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2,"config":{"mediaType":"a/b","size":2,"digest":"sha256:` + hexA + `","x":1},"holdEndpoint":"https://hold01.example.com","manifestBlob":{"$type":"blob","ref":{"$link":"bafk"},"mimeType":"a/b","size":3},"createdAt":"2025-10-01T00:00:00Z"}`, ""},
		{"platform", NSIDManifest, `{"$type":"io.atcr.manifest","repository":"app","digest":"d","mediaType":"m","schemaVersion":2,"manifests":[{"mediaType":"m","size":1,"digest":"d","platform":{"architecture":"arm64","os":"windows","osVersion":"10","osFeatures":["win32k"],"variant":"v8","new":true}}],"createdAt":"x"}`, ""},
		{"profile with a URL", NSIDProfile, `{"$type":"io.atcr.sailor.profile","defaultHold":"https://Hold01.example.com/","createdAt":"x"}`, `{"$type":"io.atcr.sailor.profile","defaultHold":"did:web:hold01.example.com","createdAt":"x"}`},
		{"profile with a DID", NSIDProfile, `{"$type":"io.atcr.sailor.profile","defaultHold":"` + didA + `","createdAt":"x"}`, ""},
		{"star, old", NSIDStar, `{"$type":"io.atcr.sailor.star","subject":{"did":"` + didA + `","repository":"a/b"},"createdAt":"x"}`,
			`{"$type":"io.atcr.sailor.star","subject":"at://` + didA + `/io.atcr.repo.page/a~b","createdAt":"x"}`},
		{"crew, oldest", NSIDCrew, `{"$type":"io.atcr.hold.crew","role":"member","permissions":[],"addedAt":"x","did":"` + didA + `"}`,
			`{"$type":"io.atcr.hold.crew","member":"` + didA + `","role":"member","permissions":[],"addedAt":"x","did":"` + didA + `"}`},
		{"captain", NSIDCaptain, `{"$type":"io.atcr.hold.captain","owner":"` + didA +
			`","public":false,"allowAllCrew":true,"enableBlueskyPosts":false,"deployedAt":"x","provider":"fly"}`, ""},
		{"page with an old blob", NSIDRepoPage, `{"$type":"io.atcr.repo.page","repository":"app","avatar":{"cid":"bafk","mimeType":"image/png"},"createdAt":"x","updatedAt":"y"}`, `{"$type":"io.atcr.repo.page","repository":"app","avatar":{"$type":"blob","ref":{"$link":"bafk"},"mimeType":"image/png","size":0},"createdAt":"x","updatedAt":"y"}`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := NewRecord(c.nsid)
			if err := json.Unmarshal([]byte(c.in), r); err != nil {
				t.Fatal(err)
			}
			out, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			want := c.want
			if want == "" {
				want = c.in
			}
			if string(out) != want {
				t.Errorf("got  %s\nwant %s", out, want)
			}
		})
	}
}

func TestRecordErrors(t *testing.T) {
	for _, in := range []string{
		`null`, `[]`, `{"$type":"io.atcr.manifest"}`, `{"repository":1}`, `{"$type":7}`, `{`,
	} {
		var tag Tag
		if err := json.Unmarshal([]byte(in), &tag); err == nil {
			t.Errorf("%s was taken", in)
		}
	}
	if err := new(Tag).UnmarshalJSON([]byte(`{"repository":1}`)); !errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), "repository") {
		t.Errorf("got %v", err)
	}
}

func TestRecordCheck(t *testing.T) {
	const uri = "at://" + didA + "/io.atcr.manifest/" + hexA
	const now = "2026-01-01T00:00:00Z"
	good := func() []Record {
		return []Record{
			&Manifest{Repository: "app", Digest: "sha256:" + hexA, MediaType: "m", CreatedAt: now},
			&Manifest{Repository: "app", Digest: "sha512:" + hexA + hexA, MediaType: "m", CreatedAt: now},
			&Tag{Repository: "app", Tag: "v1"},
			&RepoPage{Repository: "app", CreatedAt: now, UpdatedAt: now},
			&SailorProfile{CreatedAt: now},
			&Star{Subject: "at://" + didA + "/io.atcr.repo.page/app", CreatedAt: now},
			&Captain{Owner: didA, DeployedAt: now},
			&Crew{Member: didA, Role: "member", AddedAt: now},
			&Layer{Digest: "sha256:" + hexA, MediaType: "m", Manifest: uri, UserDID: didA, CreatedAt: now},
			&Stats{OwnerDID: didA, Repository: "app", UpdatedAt: now},
			&Scan{Manifest: uri, Repository: "app", UserDID: didA, ScannerVersion: "1", ScannedAt: now},
		}
	}
	for _, r := range good() {
		if err := r.Check(); err != nil {
			t.Errorf("%s: %v", r.NSID(), err)
		}
	}
	bad := []Record{
		&Manifest{Repository: "app", Digest: "sha256:short", MediaType: "m", CreatedAt: now},
		&Manifest{Repository: "app", Digest: "sha256:" + hexA, MediaType: "m"},
		&Manifest{Repository: strings.Repeat("a", 256), Digest: "sha256:" + hexA, MediaType: "m", CreatedAt: now},
		&Manifest{Repository: "app", Digest: "sha256:" + hexA, MediaType: "m", CreatedAt: "yesterday"},
		&Tag{Repository: "app"},
		&Star{Subject: "at://alice.test/io.atcr.repo.page/app", CreatedAt: now},
		&Captain{Owner: "alice.test", DeployedAt: now},
		&Crew{Role: "member", AddedAt: now},
		&Layer{Digest: "sha256:" + hexA, Size: -1, MediaType: "m", Manifest: uri, UserDID: didA, CreatedAt: now},
		&Stats{OwnerDID: didA, Repository: "app", PullCount: -1, UpdatedAt: now},
		&Scan{Manifest: "x", Repository: "app", UserDID: didA, ScannerVersion: "1", ScannedAt: now},
	}
	for _, r := range bad {
		if err := r.Check(); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %+v: got %v, want ErrRecord", r.NSID(), r, err)
		}
	}
	if NewRecord("io.atcr.other") != nil {
		t.Error("an unknown collection has a record")
	}
}

func TestManifestHold(t *testing.T) {
	for _, c := range []struct {
		m    Manifest
		want string
	}{
		{Manifest{HoldDID: didA, HoldEndpoint: "https://old.example.com"}, didA},
		{Manifest{HoldEndpoint: "https://old.example.com"}, "did:web:old.example.com"},
		{Manifest{HoldEndpoint: "http://127.0.0.1:8080"}, "did:web:127.0.0.1%3A8080"},
		{Manifest{HoldEndpoint: "did:web:old.example.com"}, "did:web:old.example.com"},
		{Manifest{}, ""},
	} {
		got, err := c.m.Hold()
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: got %q, %v", c.m, got, err)
		}
	}
}

func TestTagPointAndTarget(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := digest.Digest("sha256:" + hexA)
	uri := URI{didA, NSIDManifest, ManifestRKeyIn("a/b", d)}
	tag := &Tag{Repository: "a/b", Tag: "v1", ManifestDigest: "sha256:" + strings.Repeat("0", 64), CreatedAt: "2025-01-01T00:00:00Z"}
	if got, old := tag.Target(); got != (URI{}) || old != digest.Digest(tag.ManifestDigest) {
		t.Errorf("old form: %v %v", got, old)
	}
	if !tag.Point(uri, d, "m", now) {
		t.Error("nothing changed")
	}
	if tag.ManifestDigest != string(d) || tag.UpdatedAt != "2026-01-02T03:04:05.000Z" || tag.CreatedAt == "" {
		t.Errorf("%+v", tag)
	}
	if tag.Point(uri, d, "m", now.Add(time.Hour)) {
		t.Error("the same target counts as a change")
	}
	if got, gotD := tag.Target(); got != uri || gotD != d {
		t.Errorf("got %v %v", got, gotD)
	}
	if !tag.Time().Equal(now) {
		t.Error(tag.Time())
	}
}

func TestNewManifestStaysSmall(t *testing.T) {
	long := map[string]string{"k": strings.Repeat("x", 60_000)}
	layers := func(n int, annotations map[string]string) (out []ocispec.Descriptor) {
		for range n {
			out = append(out, ocispec.Descriptor{MediaType: "l", Digest: "sha256:" + hexA, Annotations: annotations, URLs: []string{"https://x"}})
		}
		return out
	}
	cases := []struct {
		name                                           string
		in                                             ManifestInput
		annotations, layerAnnotations, layers, indexes bool
	}{
		{"small", ManifestInput{Annotations: map[string]string{"a": "b"}, Layers: layers(1, map[string]string{"a": "b"})}, true, true,
			true, false},
		{"annotations", ManifestInput{Annotations: map[string]string{"k": strings.Repeat("x", 100_000)}, Layers: layers(1, long)}, false,
			true, true, false},
		{"layer annotations", ManifestInput{Annotations: long, Layers: layers(2, long)}, false, false, true, false},
		{"layers", ManifestInput{Layers: layers(2000, nil), Manifests: layers(10, nil)}, false, false, false, true},
		{"manifests", ManifestInput{Manifests: layers(2000, nil)}, false, false, false, false},
		{"hostile config", ManifestInput{Config: &ocispec.Descriptor{Digest: "d",
			Annotations: map[string]string{"k": strings.Repeat("x", 1<<20)}}}, false, false, false, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.in.Repository, c.in.Digest, c.in.MediaType, c.in.Blob = "app", "sha256:"+hexA, "m", &Blob{CID: "bafk", MimeType: "m", Size: 9}
			m := NewManifest(c.in)
			raw, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if len(raw) >= MaxRecordSize {
				t.Errorf("%d bytes", len(raw))
			}
			layerAnnotations := len(m.Layers) > 0 && m.Layers[0].Annotations != nil
			if got, want := fmt.Sprint(m.Annotations != nil, layerAnnotations, m.Layers != nil, m.Manifests != nil),
				fmt.Sprint(c.annotations, c.layerAnnotations, c.layers, c.indexes); got != want {
				t.Errorf("annotations, layer annotations, layers, manifests: got %s, want %s", got, want)
			}
			if m.ManifestBlob == nil || m.Repository == "" || m.Digest == "" {
				t.Error("a field that always stays is gone")
			}
		})
	}
}

func TestNewManifestCleans(t *testing.T) {
	m := NewManifest(ManifestInput{
		Annotations: map[string]string{"$type": "blob", "ok": "yes", "bad": "\xff", "\xff": "bad"},
		Layers:      []ocispec.Descriptor{{URLs: []string{"\xff"}, Annotations: map[string]string{"$link": "x"}}},
	})
	if len(m.Annotations) != 1 || m.Annotations["ok"] != "yes" || m.Layers[0].URLs != nil || m.Layers[0].Annotations != nil {
		t.Errorf("%+v", m)
	}
}

func TestRKeys(t *testing.T) {
	d := digest.Digest("sha256:" + hexA)
	for _, c := range [][2]string{
		{ManifestRKey(d), hexA},
		{ManifestRKeyIn("stream/cache", d), hexA + "~stream~cache"},
		{TagRKey("stream/cache", "v1"), "stream~cache_v1"},
		{TagRKeyClash("stream/cache", "v1"), "stream~cache:v1"},
		{RepoPageRKey("a/b/c"), "a~b~c"},
		{RepoPageRepository("a~b~c"), "a/b/c"},
		{ScanRKey(d), hexA},
		// printf %s did:plc:ewvi7nxzyoun6zhxrhs64oiz | sha256sum | cut -c1-32 | xxd -r -p | base32 | tr -d = | tr A-Z a-z
		{CrewRKey(didA), crewRKeyA},
		{StatsRKey(didA, "stream/cache"), statsRKeyA},
	} {
		if c[0] != c[1] || !ValidRKey(c[0]) && !strings.Contains(c[0], "/") {
			t.Errorf("got %q, want %q", c[0], c[1])
		}
	}
	for _, rkey := range []string{hexA, hexA + "~app"} {
		if got, ok := ManifestRKeyDigest(rkey); got != d || !ok {
			t.Errorf("%s: %v %v", rkey, got, ok)
		}
	}
	if got, ok := ManifestRKeyDigest("3kabc"); ok {
		t.Errorf("a TID gives %v", got)
	}
}

const (
	crewRKeyA  = "bgpe5klm2ywalirsgmmftuqms4"
	statsRKeyA = "rvz7rnsuzibaxr5mpsnkft3r6a"
)
