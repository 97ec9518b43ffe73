package atcr_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
)

func ExampleParseReference() {
	r, err := atcr.ParseReference("Registry.example.com/did:plc:ewvi7nxzyoun6zhxrhs64oiz/stream/cache:v1")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Host, r.Identity, r.Repository, r.Tag)
	fmt.Println(r)
	_, err = atcr.ParseReference("alice.example.com/App")
	fmt.Println(err)
	// Output:
	// registry.example.com did:plc:ewvi7nxzyoun6zhxrhs64oiz stream/cache v1
	// registry.example.com/did-plc-ewvi7nxzyoun6zhxrhs64oiz/stream/cache:v1
	// reference "alice.example.com/App": invalid reference: invalid repository name: component "App": use lower-case letters and digits, joined by '.', '_', '__' or '-'
}

func ExampleParseIdentity() {
	for _, s := range []string{"Alice.Example.com", "did-plc-ewvi7nxzyoun6zhxrhs64oiz", "did:web:example.com"} {
		id, err := atcr.ParseIdentity(s)
		fmt.Println(id, id.Path(), err)
	}
	// Output:
	// alice.example.com alice.example.com <nil>
	// did:plc:ewvi7nxzyoun6zhxrhs64oiz did-plc-ewvi7nxzyoun6zhxrhs64oiz <nil>
	// did:web:example.com did_web_example.com <nil>
}

func ExampleRewriteName() {
	fmt.Println(atcr.RewriteName("did:plc:ewvi7nxzyoun6zhxrhs64oiz/app"))
	fmt.Println(atcr.RewriteName("alice.example.com/app"))
	// Output:
	// did-plc-ewvi7nxzyoun6zhxrhs64oiz/app
	// alice.example.com/app
}

func ExampleHoldDID() {
	for _, s := range []string{"https://hold.example.com/", "did:web:127.0.0.1:8080"} {
		did, err := atcr.HoldDID(s)
		fmt.Println(did, err)
	}
	// Output:
	// did:web:hold.example.com <nil>
	// did:web:127.0.0.1%3A8080 <nil>
}

// Unknown fields survive a change.
func ExampleTag_Point() {
	var tag atcr.Tag
	if err := json.Unmarshal([]byte(`{"$type":"io.atcr.tag","repository":"app","tag":"v1","com.example.note":"mine"}`), &tag); err != nil {
		fmt.Println(err)
		return
	}
	d := digest.FromString("the manifest")
	uri := atcr.URI{DID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz", Collection: atcr.NSIDManifest, RKey: atcr.ManifestRKey(d)}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	fmt.Println(tag.Point(uri, d, "application/vnd.oci.image.manifest.v1+json", now))
	out, err := json.MarshalIndent(tag, "", "  ")
	fmt.Println(string(out), err)
	// Output:
	// true
	// {
	//   "$type": "io.atcr.tag",
	//   "repository": "app",
	//   "tag": "v1",
	//   "manifest": "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/io.atcr.manifest/b802ab9f53cad6bd4004f3c99d9ae71d7a8ff28686bbdc04a30862ee255374dc",
	//   "mediaType": "application/vnd.oci.image.manifest.v1+json",
	//   "updatedAt": "2026-11-23T12:00:00.000Z",
	//   "com.example.note": "mine"
	// } <nil>
}

func ExampleNewManifest() {
	body := []byte(`{"schemaVersion":2,"manifests":[]}`)
	m := atcr.NewManifest(atcr.ManifestInput{
		Repository: "app",
		HoldDID:    "did:web:hold.example.com",
		Blob: &atcr.Blob{CID: "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
			MimeType: "application/vnd.oci.image.index.v1+json", Size: int64(len(body))},
		CreatedAt:     time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		Digest:        digest.FromBytes(body),
		MediaType:     "application/vnd.oci.image.index.v1+json",
		SchemaVersion: 2,
	})
	fmt.Println(m.NSID(), atcr.ManifestRKey(m.OCIDigest())[:8], m.Check())
	// Output:
	// io.atcr.manifest bc5857ac <nil>
}
