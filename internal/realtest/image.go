package realtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageTag names the image inside layouts and archives.
const imageTag = "realtest.local/image:made"

// ImageOptions says what image to make. The same options make the same bytes.
type ImageOptions struct {
	SizeMB int    // of all layers as they travel, in MiB; 0 is 1
	Layers int    // 0 is 3
	Seed   uint64 // another seed, other bytes
}

// An ImageFile is a made image, on disk in two forms.
type ImageFile struct {
	Layout  string   // folder: OCI layout with this one image, tagged "made"
	Archive string   // file: what docker save writes
	Digest  string   // of the manifest in Layout
	Blobs   []string // digests of the layers in Layout, then of the config
	Size    int64    // of the layers, bytes
}

// Image makes an OCI image for linux/amd64 whose layers hold files of random
// bytes, so that nothing compresses and no two layers share.
func Image(t testing.TB, o ImageOptions) *ImageFile {
	t.Helper()
	img, err := buildImage(o, "amd64")
	if err != nil {
		t.Fatalf("realtest: make image: %v", err)
	}
	made, err := writeImage(t.TempDir(), img)
	if err != nil {
		t.Fatalf("realtest: make image: %v", err)
	}
	return made
}

func writeImage(dir string, img v1.Image) (*ImageFile, error) {
	made := &ImageFile{Layout: filepath.Join(dir, "layout"), Archive: filepath.Join(dir, "image.tar")}
	l, err := layout.Write(made.Layout, empty.Index)
	if err != nil {
		return nil, err
	}
	if err := l.AppendImage(img, named()); err != nil {
		return nil, err
	}
	tag, err := name.NewTag(imageTag)
	if err != nil {
		return nil, err
	}
	if err := tarball.WriteToFile(made.Archive, tag, img); err != nil {
		return nil, err
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Layers {
		made.Blobs = append(made.Blobs, d.Digest.String())
		made.Size += d.Size
	}
	made.Blobs = append(made.Blobs, m.Config.Digest.String())
	d, err := img.Digest()
	made.Digest = d.String()
	return made, err
}

func named() layout.Option {
	return layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "made"})
}

func buildImage(o ImageOptions, arch string) (v1.Image, error) {
	count, size := o.Layers, int64(max(o.SizeMB, 1))<<20
	if count == 0 {
		count = 3
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: arch, OS: "linux", Created: v1.Time{Time: time.Unix(0, 0).UTC()},
		Config: v1.Config{Cmd: []string{"/nothing"}, Labels: map[string]string{"seed": fmt.Sprint(o.Seed)}},
	})
	if err != nil {
		return nil, err
	}
	for i := range count {
		raw, err := layerBytes(o.Seed, i, arch, size/int64(count))
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
			tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// layerBytes is a gzipped tar of four files of random bytes.
func layerBytes(seed uint64, layer int, arch string, size int64) ([]byte, error) {
	var key [32]byte
	copy(key[:], fmt.Sprintf("%d/%d/%s", seed, layer, arch))
	random := rand.NewChaCha8(key)
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.NoCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(zip)
	for f := range 4 {
		header := &tar.Header{Name: fmt.Sprintf("layer%d/file%d", layer, f), Mode: 0o644, Size: size / 4,
			ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := io.CopyN(w, random, size/4); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	err = zip.Close()
	return out.Bytes(), err
}

// An IndexFile is a made image index of linux/amd64 and linux/arm64.
type IndexFile struct {
	Layout    string   // folder: OCI layout whose index.json names the index, tagged "made"
	Flat      string   // folder: OCI layout whose index.json is the index itself
	Digest    string   // of the index
	Manifests []string // digests of its images
}

// Index makes an image index of two small images.
func Index(t testing.TB, o ImageOptions) *IndexFile {
	t.Helper()
	made, err := makeIndex(t.TempDir(), o)
	if err != nil {
		t.Fatalf("realtest: make index: %v", err)
	}
	return made
}

func makeIndex(dir string, o ImageOptions) (*IndexFile, error) {
	made := &IndexFile{Layout: filepath.Join(dir, "layout"), Flat: filepath.Join(dir, "flat")}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := buildImage(o, arch)
		if err != nil {
			return nil, err
		}
		d, err := img.Digest()
		if err != nil {
			return nil, err
		}
		made.Manifests = append(made.Manifests, d.String())
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	if _, err := layout.Write(made.Flat, index); err != nil {
		return nil, err
	}
	l, err := layout.Write(made.Layout, empty.Index)
	if err != nil {
		return nil, err
	}
	if err := l.AppendIndex(index, named()); err != nil {
		return nil, err
	}
	d, err := index.Digest()
	made.Digest = d.String()
	return made, err
}

// File writes a file of size random bytes and returns its path.
func File(t testing.TB, fileName string, size int64, seed uint64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), fileName)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var key [32]byte
	copy(key[:], fmt.Sprintf("%s/%d", fileName, seed))
	if _, err := io.CopyN(f, rand.NewChaCha8(key), size); err != nil {
		t.Fatal(err)
	}
	return path
}
