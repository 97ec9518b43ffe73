package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	image = ocispec.MediaTypeImageManifest
	index = ocispec.MediaTypeImageIndex
)

func hexOf(c string) string { return "sha256:" + strings.Repeat(c, 64) }

func desc(mediaType, c string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":7}`, mediaType, hexOf(c))
}

func TestParseManifest(t *testing.T) {
	config := desc("application/vnd.oci.image.config.v1+json", "c")
	layer := desc("application/vnd.oci.image.layer.v1.tar+gzip", "1")
	foreign := desc("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "2")
	urls := `{"mediaType":"application/x","digest":"` + hexOf("3") + `","size":7,"urls":["https://example.com/x"]}`
	child := desc(image, "4")
	cases := []struct {
		name, header, body string
		mediaType          string
		blobs, manifests   string // first characters of the digests
		artifactType       string // of the referrer
	}{
		{"image", image, `{"schemaVersion":2,"config":` + config + `,"layers":[` + layer + `,` + layer + `]}`, image, "c1", "",
			"application/vnd.oci.image.config.v1+json"},
		{"type from body", "", `{"schemaVersion":2,"mediaType":"` + image + `","config":` + config + `,"layers":[]}`, image, "c", "",
			"application/vnd.oci.image.config.v1+json"},
		{"type from shape", "", `{"schemaVersion":2,"config":` + config + `,"layers":[` + layer + `]}`, image, "c1", "",
			"application/vnd.oci.image.config.v1+json"},
		{"index from shape", "", `{"schemaVersion":2,"manifests":[` + child + `]}`, index, "", "4", ""},
		{"parameters in the header", image + "; charset=utf-8", `{"schemaVersion":2,"config":` + config + `}`, image, "c", "",
			"application/vnd.oci.image.config.v1+json"},
		{"docker", MediaTypeDockerManifest, `{"schemaVersion":2,"mediaType":"` + MediaTypeDockerManifest + `","config":` + config +
			`,"layers":[` + layer + `]}`, MediaTypeDockerManifest, "c1", "", "application/vnd.oci.image.config.v1+json"},
		{"foreign layers need not exist", image, `{"schemaVersion":2,"config":` + config + `,"layers":[` + foreign + `,` + urls + `,` +
			layer + `]}`, image, "c1", "", "application/vnd.oci.image.config.v1+json"},
		{"artifact type and subject", image, `{"schemaVersion":2,"artifactType":"a/b","config":` + config + `,"layers":[],"subject":` +
			child + `}`, image, "c", "", "a/b"},
		{"index", index, `{"schemaVersion":2,"manifests":[` + child + `],"subject":` + child + `}`, index, "", "4", ""},
		{"empty index", index, `{"schemaVersion":2,"manifests":[]}`, index, "", "", ""},
		{"build cache", index, `{"schemaVersion":2,"manifests":[` + layer + `,` + desc("application/vnd.buildkit.cacheconfig.v0", "5") +
			`,` + child + `]}`, index, "15", "4", ""},
		{"artifact manifest", MediaTypeArtifactManifest, `{"artifactType":"a/b","blobs":[` + layer + `]}`, MediaTypeArtifactManifest, "1",
			"", "a/b"},
		{"unknown type", "application/vnd.example+json", `{"anything":[1,{"x":null}],"blobs":"none"}`, "application/vnd.example+json", "",
			"", ""},
		{"unknown type with keys of ours", "application/vnd.example+json", `{"schemaVersion":1,"config":` + config + `,"layers":[` + layer +
			`],"subject":` + child + `,"artifactType":"a/b"}`, "application/vnd.example+json", "c1", "", "a/b"},
		{"unknown type with other meanings", "application/vnd.example+json", `{"schemaVersion":"1.0","config":"none","layers":7,` +
			`"manifests":[{"name":"x"}],"subject":"CN=x","annotations":[1],"artifactType":{},"Layers":[],"mediatype":3}`,
			"application/vnd.example+json", "", "", ""},
		{"image and index, of an unknown type", "application/vnd.example+json", `{"manifests":[],"layers":[` + layer + `]}`,
			"application/vnd.example+json", "1", "", ""},
		{"unknown type told by the body", "", `{"mediaType":"application/vnd.example+json","layers":"none"}`, "application/vnd.example+json",
			"", "", ""},
		{"nulls", image, `{"schemaVersion":2,"config":` + config + `,"layers":null,"manifests":null,"annotations":null,"subject":null}`,
			image, "c", "", "application/vnd.oci.image.config.v1+json"},
		{"escapes", image, `{"schemaVersion":2,"config":` + strings.Replace(config, "mediaType", `media\u0054ype`, 1) + `}`, image, "c",
			"", "application/vnd.oci.image.config.v1+json"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m, err := ParseManifest(c.header, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if m.MediaType != c.mediaType || m.Digest != digest.FromString(c.body) || m.Size() != int64(len(c.body)) {
				t.Errorf("got %+v", m.Descriptor())
			}
			if got := initials(m.RequiredBlobs()); got != c.blobs {
				t.Errorf("blobs: got %q, want %q", got, c.blobs)
			}
			if got := initials(m.RequiredManifests()); got != c.manifests {
				t.Errorf("manifests: got %q, want %q", got, c.manifests)
			}
			if got := m.Referrer().ArtifactType; got != c.artifactType {
				t.Errorf("artifactType: got %q, want %q", got, c.artifactType)
			}
		})
	}
}

func initials(list []ocispec.Descriptor) (s string) {
	for _, d := range list {
		s += d.Digest.Encoded()[:1]
	}
	return s
}

func TestParseManifestRefuses(t *testing.T) {
	config := desc("application/vnd.oci.image.config.v1+json", "c")
	ok := `"schemaVersion":2,"config":` + config
	cases := []struct {
		name, header, body string
		kind               error
		text               string
	}{
		{"too large", image, strings.Repeat(" ", MaxManifestSize+1), ErrTooLarge, ""},
		{"html", "text/html", `{}`, ErrMediaType, ""},
		{"svg", "image/svg+xml", `{}`, ErrMediaType, ""},
		{"broken header", "a/b; =", `{}`, ErrMediaType, ""},
		{"header and body differ", image, `{` + ok + `,"mediaType":"` + index + `"}`, ErrMediaType, ""},
		{"docker header, OCI body", MediaTypeDockerManifest, `{` + ok + `,"mediaType":"` + image + `"}`, ErrMediaType, ""},
		{"no type at all", "", `{}`, ErrMediaType, ""},
		{"image and index", image, `{` + ok + `,"manifests":[]}`, ErrManifest, "at once"},
		{"index and image", index, `{"schemaVersion":2,"manifests":[],"layers":[]}`, ErrManifest, "at once"},
		{"a key twice, of an unknown type", "application/x+json", `{"layers":1,"layers":2}`, ErrManifest, "twice"},
		{"deep, of an unknown type", "application/x+json", `{"layers":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, ErrManifest,
			"deep"},
		{"header and body differ, of an unknown type", "application/x+json", `{"mediaType":"application/y+json"}`, ErrMediaType, ""},
		{"an unknown header over an image", "application/x+json", `{` + ok + `,"mediaType":"` + image + `"}`, ErrMediaType, ""},
		{"not our form, no type", "", `{"layers":1}`, ErrManifest, "layers"},
		{"an image named index", index, `{` + ok + `}`, ErrManifest, ""},
		{"an index named image", image, `{"schemaVersion":2,"manifests":[]}`, ErrManifest, ""},
		{"no config", image, `{"schemaVersion":2,"layers":[]}`, ErrManifest, "config"},
		{"schema 1", "application/vnd.docker.distribution.manifest.v1+json", `{"schemaVersion":1}`, ErrManifest, "schemaVersion 1"},
		{"no schemaVersion", image, `{"config":` + config + `}`, ErrManifest, "schemaVersion"},
		{"duplicate key", image, `{` + ok + `,"config":` + config + `}`, ErrManifest, `"config" comes twice`},
		{"duplicate by escape", image, `{` + ok + `,"\u0063onfig":` + config + `}`, ErrManifest, "twice"},
		{"duplicate deep in an unknown field", image, `{` + ok + `,"x":[{"a":1,"a":2}]}`, ErrManifest, `"a" comes twice`},
		{"other capitals", image, `{` + ok + `,"Config":` + config + `}`, ErrManifest, `"config"`},
		{"other capitals in a descriptor", image, `{` + strings.Replace(ok, `"size":7`, `"size":7,"Size":8`, 1) + `}`, ErrManifest, `"size"`},
		{"digest", image, strings.Replace(`{`+ok+`}`, "sha256:cc", "sha256:CC", 1), ErrManifest, "config: digest"},
		{"no digest", image, `{"schemaVersion":2,"config":{"mediaType":"a","size":1}}`, ErrManifest, "digest is missing"},
		{"no size", image, `{"schemaVersion":2,"config":{"mediaType":"a","digest":"` + hexOf("c") + `"}}`, ErrManifest, "size"},
		{"negative size", image, strings.Replace(`{`+ok+`}`, `:7`, `:-7`, 1), ErrManifest, "negative"},
		{"fraction", image, strings.Replace(`{`+ok+`}`, `:7`, `:7.5`, 1), ErrManifest, "whole number"},
		{"size beyond 64 bits", image, strings.Replace(`{`+ok+`}`, `:7`, `:99999999999999999999`, 1), ErrManifest, "whole number"},
		{"annotation that is no text", image, `{` + ok + `,"annotations":{"a":1}}`, ErrManifest, "annotations: a"},
		{"layers as object", image, `{` + ok + `,"layers":{}}`, ErrManifest, "list"},
		{"deep", image, `{` + ok + `,"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, ErrManifest, "deep"},
		{"very deep", image, strings.Repeat("[", 1<<20), ErrManifest, ""},
		{"many values", image, `{` + ok + `,"x":[` + strings.Repeat("0,", MaxManifestValues) + `0]}`, ErrManifest, "values"},
		{"not UTF-8", image, "{\"x\":\"\xff\"}", ErrManifest, "UTF-8"},
		{"not JSON", image, `{"schemaVersion":2,}`, ErrManifest, "JSON"},
		{"two values", image, `{} {}`, ErrManifest, "JSON"},
		{"list", image, `[]`, ErrManifest, "object"},
		{"empty", image, ``, ErrManifest, "JSON"},
	}
	kinds := []error{ErrTooLarge, ErrMediaType, ErrManifest, ErrDigest, ErrDigestMismatch}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseManifest(c.header, []byte(c.body))
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("got %v, want text %q", err, c.text)
			}
			for _, kind := range kinds {
				if errors.Is(err, kind) != (kind == c.kind) {
					t.Errorf("got %v, want the kind %v only", err, c.kind)
				}
			}
			if len(err.Error()) > 700 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestTwoSizes(t *testing.T) {
	config := desc("application/vnd.oci.image.config.v1+json", "c")
	other := strings.Replace(config, ":7", ":8", 1)
	for body, want := range map[string]bool{
		`{"schemaVersion":2,"config":` + config + `,"layers":[` + config + `,` + config + `]}`:        false,
		`{"schemaVersion":2,"config":` + config + `,"layers":[` + other + `]}`:                        true,
		`{"schemaVersion":2,"config":` + config + `,"layers":[],"subject":` + other + `}`:             false, // it need not be there
		`{"schemaVersion":2,"manifests":[` + config + `,` + other + `]}`:                              true,
		`{"mediaType":"application/x+json","layers":[` + config + `],"manifests":[` + other + `]}`:    true,
		`{"mediaType":"application/x+json","layers":[` + config + `],"manifests":[` + other + `, 1]}`: false, // not our form
	} {
		m, err := ParseManifest("", []byte(body))
		if err != nil {
			t.Fatal(body, err)
		}
		if d, one, two, found := m.TwoSizes(); found != want || found && (d.String() != hexOf("c") || one+two != 15) {
			t.Errorf("%s: %s %d %d %v", body, d, one, two, found)
		}
	}
}

func TestParseManifestAs(t *testing.T) {
	body := []byte(`{"schemaVersion":2,"manifests":[]}`)
	for _, d := range []digest.Digest{"", digest.SHA256.FromBytes(body), digest.SHA512.FromBytes(body)} {
		m, err := ParseManifestAs(index, body, d)
		if err != nil || d != "" && m.Digest != d {
			t.Errorf("%s: %v", d, err)
		}
	}
	if _, err := ParseManifestAs(index, body, digest.FromString("x")); !errors.Is(err, ErrDigestMismatch) {
		t.Errorf("got %v", err)
	}
	if _, err := ParseManifestAs(index, body, "md5:1"); !errors.Is(err, ErrDigest) {
		t.Errorf("got %v", err)
	}
}

// Whatever is taken, encoding/json reads the same from it.
func FuzzParseManifest(f *testing.F) {
	config := desc("application/vnd.oci.image.config.v1+json", "c")
	f.Add(image, []byte(`{"schemaVersion":2,"config":`+config+`,"layers":[`+config+`],"annotations":{"a":"b"},"subject":`+config+`}`))
	f.Add(index, []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":"`+hexOf("1")+
		`","size":1,"data":"e30=","platform":{"architecture":"a","os":"b","os.version":"c","os.features":["d"]}}]}`))
	f.Add("", []byte(`{"x":[1,-2.5e3,true,false,null,"\ud83d\ude00\\\"",{}]}`))
	f.Fuzz(func(t *testing.T, header string, data []byte) {
		m, err := ParseManifest(header, data)
		if err != nil {
			return
		}
		var want struct {
			ocispec.Manifest
			Manifests []ocispec.Descriptor `json:"manifests"`
		}
		if err := json.Unmarshal(data, &want); err != nil {
			if IsImageType(m.MediaType) || IsIndexType(m.MediaType) {
				t.Fatalf("taken, but encoding/json says %v", err)
			}
			return
		}
		if !isKnownType(m.MediaType) {
			return
		}
		var config ocispec.Descriptor
		if m.Config != nil {
			config = *m.Config
		}
		layers := m.Layers
		if m.MediaType == MediaTypeArtifactManifest {
			layers = want.Layers
		}
		for _, pair := range [][2]any{
			{config, want.Config}, {layers, want.Layers}, {m.Manifests, want.Manifests}, {m.Subject, want.Subject},
			{m.Annotations, want.Annotations}, {m.SchemaVersion, want.SchemaVersion}, {m.ArtifactType, want.ArtifactType},
		} {
			a, b := asJSON(pair[0]), asJSON(pair[1])
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("got %s, encoding/json %s", a, b)
			}
		}
		m.RequiredBlobs()
		m.RequiredManifests()
	})
}

// asJSON makes nil and empty equal.
func asJSON(v any) string {
	b, _ := json.Marshal(v)
	switch s := string(b); s {
	case "null", "[]", "{}":
		return ""
	default:
		return s
	}
}
