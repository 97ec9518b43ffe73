package oci

import (
	"strings"
	"testing"
)

func BenchmarkParseManifest(b *testing.B) {
	layer := desc("application/vnd.oci.image.layer.v1.tar+gzip", "1")
	body := []byte(`{"schemaVersion":2,"config":` + layer + `,"layers":[` + strings.Repeat(layer+",", 11) + layer + `]}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseManifest(image, body); err != nil {
			b.Fatal(err)
		}
	}
}
