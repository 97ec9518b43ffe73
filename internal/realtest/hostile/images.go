package hostile

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/repo"
)

const created = "2026-01-01T00:00:00Z"

// entry is a record of a list, as it stands there.
type entry struct {
	rkey string
	json []byte
}

func newEntry(did, collection, rkey string, value any) entry {
	raw := mustJSON(value)
	return entry{rkey, mustJSON(map[string]any{
		"uri": "at://" + did + "/" + collection + "/" + rkey, "cid": repo.BlobCID(raw).String(), "value": json.RawMessage(raw),
	})}
}

// addImage makes an image whose manifest lies at the PDS and whose blobs lie in the holds. The caller holds mu.
func (n *Network) addImage(m *party, i int) Image {
	img := Image{Tag: fmt.Sprint("v", i), Blobs: map[string][]byte{}}
	blob := func(mediaType, text string) ocispec.Descriptor {
		d := digest.FromString(text)
		img.Blobs[d.String()], n.blobs[d.String()] = []byte(text), []byte(text)
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(text))}
	}
	config := blob(ocispec.MediaTypeImageConfig, fmt.Sprintf(`{"architecture":"amd64","os":"linux","n":"%s %d"}`, m.did, i))
	layers := []ocispec.Descriptor{}
	for j := range m.Layers {
		layers = append(layers, blob(ocispec.MediaTypeImageLayerGzip, fmt.Sprintf("layer %d of image %d of %s", j, i, m.did)))
	}
	img.Manifest = mustJSON(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers,
	})
	d := digest.FromBytes(img.Manifest)
	img.Digest = d.String()
	cid := repo.BlobCID(img.Manifest).String()
	n.blobs[cid] = img.Manifest
	rkey := atcr.ManifestRKey(d)
	m.manifests = append(m.manifests, newEntry(m.did, atcr.NSIDManifest, rkey, atcr.NewManifest(atcr.ManifestInput{
		Repository: "app", HoldDID: m.At, Digest: d, MediaType: ocispec.MediaTypeImageManifest, SchemaVersion: 2, Config: &config,
		Layers: layers, CreatedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		Blob: &atcr.Blob{CID: cid, MimeType: ocispec.MediaTypeImageManifest, Size: int64(len(img.Manifest))},
	})))
	m.tags = append(m.tags, newEntry(m.did, atcr.NSIDTag, atcr.TagRKey("app", img.Tag), map[string]any{
		"$type": atcr.NSIDTag, "repository": "app", "tag": img.Tag, "manifest": "at://" + m.did + "/" + atcr.NSIDManifest + "/" + rkey,
		"updatedAt": created,
	}))
	return img
}

// LinkDigest is the digest of the layer by which a hold of kind [Link] sends readers to Links()[i].
func LinkDigest(i int) string { return digest.FromString(fmt.Sprint("q", i)).String() }

// addLinks makes an image of the layers of LinkDigest.
func (n *Network) addLinks(m *party) {
	var layers []map[string]any
	for i := range links {
		layers = append(layers, map[string]any{"mediaType": "a/b", "size": 9, "digest": LinkDigest(i)})
	}
	m.manifests = append(m.manifests, m.manifest("m", mustJSON(layers)))
}

// manifest is a record of an image that nobody can pull: of a digest, a list of layers, and nothing else.
func (m *party) manifest(seed string, layers json.RawMessage) entry {
	d := digest.FromString(m.did + seed)
	return newEntry(m.did, atcr.NSIDManifest, d.Encoded(), map[string]any{
		"$type": atcr.NSIDManifest, "repository": "app", "digest": d.String(), "mediaType": ocispec.MediaTypeImageManifest,
		"schemaVersion": 2, "holdDid": m.At, "createdAt": created, "layers": layers,
	})
}

func (m *party) tag(i int) entry {
	tag := fmt.Sprint("t", i)
	return newEntry(m.did, atcr.NSIDTag, atcr.TagRKey("app", tag), map[string]any{
		"$type": atcr.NSIDTag, "repository": "app", "tag": tag, "manifestDigest": digest.FromString(tag).String(), "createdAt": created,
	})
}

// manyLayers is a list of 1350 layers as it stands in a record.
func manyLayers() []byte {
	var layers []map[string]any
	for i := range 1350 {
		layers = append(layers, map[string]any{"mediaType": "a/b", "size": 1, "digest": digest.FromString(fmt.Sprint("l", i)).String()})
	}
	return mustJSON(layers)
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of our own values
	}
	return b
}
