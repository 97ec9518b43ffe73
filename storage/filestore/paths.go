package filestore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/opencontainers/go-digest"
)

const (
	dirPerm    = 0o750
	filePerm   = 0o640
	stateExt   = ".state"
	keyName    = ".key"
	blobsPath  = "docker/registry/v2/blobs"
	uploadPath = "atcr/uploads"
)

// algorithms are in the order of their names, which is the order of Walk.
var algorithms = [...]digest.Algorithm{digest.SHA256, digest.SHA512}

// layout knows where things lie.
type layout struct {
	blobs   string
	uploads string
}

func newLayout(dir, prefix string) (layout, error) {
	if prefix != "" && !filepath.IsLocal(filepath.FromSlash(prefix)) {
		return layout{}, fmt.Errorf("open filestore: prefix %q must be a relative path inside the folder", prefix)
	}
	root := filepath.Join(dir, filepath.FromSlash(prefix))
	return layout{
		blobs:   filepath.Join(root, filepath.FromSlash(blobsPath)),
		uploads: filepath.Join(root, filepath.FromSlash(uploadPath)),
	}, nil
}

// make creates the shards of sha256, so that a first use owes no fsync further up. Those of sha512 are made on first use.
func (l layout) make() error {
	dir := filepath.Join(l.blobs, digest.SHA256.String())
	if err := durable.MkdirAll(dir, dirPerm); err != nil {
		return err
	}
	made := false
	for i := range 256 {
		err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("%02x", i)), dirPerm)
		if err != nil && !os.IsExist(err) {
			return err
		}
		made = made || err == nil
	}
	if !made {
		return nil
	}
	return durable.SyncDir(dir)
}

// blobDir is the folder of one blob; d is valid.
func (l layout) blobDir(d digest.Digest) string {
	alg, hex, _ := strings.Cut(string(d), ":")
	return l.blobs + string(filepath.Separator) + filepath.Join(alg, hex[:2], hex)
}

func (l layout) blob(d digest.Digest) string { return filepath.Join(l.blobDir(d), "data") }

func (l layout) upload(id string) string { return filepath.Join(l.uploads, id) }

func (l layout) state(id string) string { return filepath.Join(l.uploads, id+stateExt) }
