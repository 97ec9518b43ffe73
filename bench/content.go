package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
	configSize   = 1200
	layerSize    = 4096
	bigSize      = 256 << 20
)

// sizedBlob is always the same content of one size.
func sizedBlob(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	r.Read(b)
	return b
}

// makeLayer makes the large layer, in memory and as a file.
func (b *bench) makeLayer() error {
	b.layer = sizedBlob(b.scale(bigSize))
	return os.WriteFile(filepath.Join(b.Folder, "layer"), b.layer, 0o600)
}

// freshLayer changes the layer so that no server has it.
func (b *bench) freshLayer() ([]byte, digest.Digest) {
	b.serial++
	binary.BigEndian.PutUint64(b.layer, b.Seed+uint64(b.serial))
	return b.layer, digest.FromBytes(b.layer)
}

// manifest is an image of one config and one layer; serial makes it unlike others. About 1 KB.
func manifest(config, layer []byte, serial int) []byte {
	descriptor := func(mediaType string, b []byte) map[string]any {
		return map[string]any{"mediaType": mediaType, "digest": digest.FromBytes(b), "size": len(b)}
	}
	layers := make([]any, 0, 4)
	for range cap(layers) {
		layers = append(layers, descriptor(layerType, layer))
	}
	m, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": descriptor(configType, config), "layers": layers,
		"annotations": map[string]string{
			"org.opencontainers.image.title": fmt.Sprintf("bench %d", serial), "org.opencontainers.image.created": "2026-01-01T00:00:00Z",
		},
	})
	if err != nil {
		panic(err) // strings and numbers always marshal
	}
	return m
}
