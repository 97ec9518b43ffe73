package oci_test

import (
	"errors"
	"fmt"

	"github.com/atcr-dev/atcr/internal/oci"
)

func ExampleParseManifest() {
	m, err := oci.ParseManifest("application/vnd.oci.image.manifest.v1+json", []byte(`{
		"schemaVersion": 2,
		"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
		"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 9, "digest": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}]
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range m.RequiredBlobs() {
		fmt.Println(d.Digest.Encoded()[:8], d.Size)
	}
	_, err = oci.ParseManifest("", []byte(`{"schemaVersion":2,"config":{},"manifests":[]}`))
	fmt.Println(errors.Is(err, oci.ErrManifest), err)
	// Output:
	// 44136fa3 2
	// ba7816bf 9
	// true invalid manifest: config: digest is missing
}
