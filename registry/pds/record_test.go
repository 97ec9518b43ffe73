package pds

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
)

const someHex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestReadTag(t *testing.T) {
	t.Parallel()
	const did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	for _, c := range []struct {
		name, json, rkey string
		digest           digest.Digest
		bad              string
	}{
		{"newest", `{"repository":"a/b","tag":"v1","manifest":"at://` + did +
			`/io.atcr.manifest/abc","updatedAt":"2025-01-01T00:00:00Z"}`, "abc", "", ""},
		{"oldest", `{"repository":"a","tag":"v1","manifestDigest":"sha256:` + someHex + `","createdAt":"2025-01-01T00:00:00Z"}`, "",
			"sha256:" + someHex, ""},
		{"both", `{"repository":"a","tag":"v1","manifest":"at://` + did + `/io.atcr.manifest/abc","manifestDigest":"sha256:` + someHex +
			`"}`, "abc", "sha256:" + someHex, ""},
		{"another's", `{"repository":"a","tag":"v1","manifest":"at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/io.atcr.manifest/abc"}`, "", "",
			"no manifest"},
		{"another collection", `{"repository":"a","tag":"v1","manifest":"at://` + did + `/io.atcr.tag/abc"}`, "", "", "no manifest"},
		{"no tag", `{"repository":"a","tag":"-x"}`, "", "", "tag"},
		{"no repository", `{"repository":"A//b","tag":"v1"}`, "", "", "repository"},
		{"no object", `[]`, "", "", "record"},
	} {
		got, err := readTag(did, "k", "c", []byte(c.json))
		if c.bad != "" {
			if err == nil || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("%s: %v, want %q", c.name, err, c.bad)
			}
			continue
		}
		if err != nil || got.ManifestRKey != c.rkey || got.Digest != c.digest {
			t.Errorf("%s: %+v %v", c.name, got, err)
		}
	}
}

// TestTagOrder: of two records of a pair the later is the newer, however its time is written.
func TestTagOrder(t *testing.T) {
	t.Parallel()
	stamp := func(at string) string {
		tag := atcr.Tag{Repository: "a", Tag: "b", ManifestDigest: "sha256:" + someHex, UpdatedAt: atcr.Datetime(at)}
		row, err := tagOf("did:plc:x", "k", "", &tag)
		if err != nil {
			t.Fatal(err)
		}
		return row.Stamp
	}
	times := []string{"nonsense", "2025-01-01T00:00:00Z", "2025-01-01T00:00:00.5Z", "2025-01-01T03:00:00+02:00", "2025-01-01T02:00:00.000Z"}
	for i := 1; i < len(times); i++ {
		if stamp(times[i-1]) >= stamp(times[i]) {
			t.Errorf("%s is not before %s", times[i-1], times[i])
		}
	}
}

func FuzzReadManifest(f *testing.F) {
	f.Add([]byte(`{"repository":"a","digest":"sha256:` + someHex +
		`","mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2,"holdDid":"did:web:h.example"}`))
	f.Add([]byte(`{"repository":"a","digest":"sha256:` + someHex +
		`","holdEndpoint":"https://h.example","config":{"digest":"x","size":-1},"layers":[{}],"subject":null,"manifestBlob":{"cid":"x"}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		m, err := readManifest("k", "c", value)
		if err == nil && (!validRepository(m.Repository) || m.Digest == "" || !strings.HasPrefix(m.Hold, "did:")) {
			t.Errorf("taken: %+v", m)
		}
		for _, l := range m.Layers {
			if l.Size < 0 || l.Digest.Validate() != nil {
				t.Errorf("layer %+v", l)
			}
		}
		for _, raw := range rebuilds(value) {
			if !json.Valid(raw) {
				t.Errorf("rebuilt %q", raw)
			}
		}
	})
}

func FuzzReadTag(f *testing.F) {
	f.Add([]byte(`{"repository":"a","tag":"v1","manifest":"at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/io.atcr.manifest/abc"}`))
	f.Add([]byte(`{"repository":"a","tag":"v1","manifestDigest":"sha256:` + someHex + `","createdAt":"x"}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		tag, err := readTag("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "k", "c", value)
		if err == nil && (!validRepository(tag.Repository) || !validTag(tag.Tag) || tag.ManifestRKey == "" && tag.Digest == "") {
			t.Errorf("taken: %+v", tag)
		}
	})
}
