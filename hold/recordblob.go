package hold

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/blobhttp"
	"github.com/atcr-dev/atcr/repo"
)

// maxRecordBlob bounds blobs of records, which lie in the repository's database.
const maxRecordBlob = 1 << 20

type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error { return nil }

// recordContent is a record's blob as blobhttp serves it.
func recordContent(cid repo.CID, b repo.Blob) blobhttp.Content {
	return blobhttp.Content{
		Digest: digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(cid.Hash())), Size: int64(len(b.Data)),
		Open: func(context.Context, int64, int64) (io.ReadCloser, error) {
			return memoryFile{bytes.NewReader(b.Data)}, nil
		},
	}
}

func blobNotFound(err error) error {
	if errors.Is(err, repo.ErrNotFound) {
		return fail(http.StatusNotFound, "BlobNotFound", "no record of this hold names this blob")
	}
	return err
}

// uploadBlob keeps a blob for a record that will name it.
func (s *Server) uploadBlob(ctx context.Context, c *call) (any, error) {
	if len(c.body) == 0 {
		return nil, invalid("the body is empty")
	}
	info, err := s.repo.PutBlob(ctx, repo.Blob{MediaType: contentType(c.r), Data: c.body})
	if err != nil {
		return nil, err
	}
	return map[string]any{"blob": object{
		"$type": "blob", "ref": map[string]string{"$link": info.CID.String()}, "mimeType": info.MediaType, "size": info.Size,
	}}, nil
}
