// Command own-backend is a registry over a backend of one's own: it serves the images of an OCI image layout, as
// "crane pull --format oci" and "docker buildx build --output type=oci,tar=false" write it, to pull from and not to push to.
//
//	crane pull --format oci alpine ./layout
//	go run ./examples/own-backend --layout ./layout
//	docker pull 127.0.0.1:5000/anything:latest
//
// Whatever the backend does not implement is refused by what it embeds.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/atcr-dev/atcr/registry"
)

// layout is a folder in the OCI image layout (image-spec, "image-layout.md"). Under every name it is the same repository.
type layout struct {
	registry.UnimplementedBackend
	registry.Unimplemented
	dir string
}

func (l layout) Repository(context.Context, registry.Actor, string) (registry.Repository, error) {
	return l, nil
}

// tags are the images of index.json by their names; one without a name is "latest".
func (l layout) tags() (map[string]ocispec.Descriptor, error) {
	data, err := os.ReadFile(filepath.Join(l.dir, ocispec.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, err
	}
	tags := map[string]ocispec.Descriptor{}
	for _, d := range index.Manifests {
		tags[cmp.Or(d.Annotations[ocispec.AnnotationRefName], "latest")] = d
	}
	return tags, nil
}

func (l layout) path(d digest.Digest) string {
	return filepath.Join(l.dir, ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func (l layout) Manifest(_ context.Context, ref registry.Ref) (registry.Manifest, error) {
	if ref.Tag != "" {
		tags, err := l.tags()
		if err != nil {
			return registry.Manifest{}, err
		}
		tagged, ok := tags[ref.Tag]
		if !ok {
			return registry.Manifest{}, registry.ErrManifestUnknown
		}
		ref.Digest = tagged.Digest
	}
	data, err := os.ReadFile(l.path(ref.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return registry.Manifest{}, registry.ErrManifestUnknown
	}
	if err != nil {
		return registry.Manifest{}, err
	}
	m, err := registry.ParseManifest("", data, ref.Digest)
	if err != nil { // a layer, or damaged
		return registry.Manifest{}, registry.ErrManifestUnknown.Wrap(err)
	}
	return m.Manifest(), nil
}

func (l layout) Tags(_ context.Context, after string) iter.Seq2[string, error] {
	tags, err := l.tags()
	if err != nil {
		return registry.Fail[string](err)
	}
	return func(yield func(string, error) bool) {
		names := make([]string, 0, len(tags))
		for name := range tags {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			if name > after && !yield(name, nil) {
				return
			}
		}
	}
}

func (l layout) Blob(_ context.Context, d digest.Digest) (registry.Blob, error) {
	info, err := os.Stat(l.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return registry.Blob{}, registry.ErrBlobUnknown
	}
	if err != nil {
		return registry.Blob{}, err
	}
	open := func(context.Context, registry.Range) (io.ReadCloser, error) { return os.Open(l.path(d)) }
	return registry.Blob{Digest: d, Size: info.Size(), ModTime: info.ModTime(), Open: open}, nil
}

// readOnly is the Authorizer: everybody pulls, nobody pushes.
type readOnly struct{}

func (readOnly) Authorize(_ *http.Request, wanted []registry.Access) (registry.Actor, error) {
	for _, access := range wanted {
		if slices.ContainsFunc(access.Actions, func(a registry.Action) bool { return a != registry.Pull }) {
			return registry.Actor{}, registry.ErrDenied.With("this registry is read-only")
		}
	}
	return registry.Actor{}, nil
}

func main() {
	addr := flag.String("addr", "127.0.0.1:5000", "address to listen on; port 0 takes a free one")
	dir := flag.String("layout", "layout", "folder of an OCI image layout")
	flag.Parse()
	listener, err := net.Listen("tcp", *addr)
	if err == nil {
		fmt.Printf("registry on http://%s\n", listener.Addr())
		err = http.Serve(listener, registry.NewHandler(layout{dir: *dir}, &registry.Options{Authorizer: readOnly{}}))
	}
	fmt.Fprintln(os.Stderr, "own-backend:", err)
	os.Exit(1)
}
