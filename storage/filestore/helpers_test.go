package filestore

import (
	"bytes"
	"io"
	"testing"

	"github.com/atcr-dev/atcr/storage"
	"github.com/opencontainers/go-digest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, nil)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func create(t *testing.T, s *Store) *upload {
	t.Helper()
	up, err := s.Create(t.Context(), storage.Hint{})
	must(t, err)
	return up.(*upload)
}

func write(t *testing.T, up storage.Upload, b []byte) {
	t.Helper()
	if n, err := up.ReadFrom(bytes.NewReader(b)); err != nil || n != int64(len(b)) {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(b), err)
	}
}

func put(t *testing.T, s *Store, b []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(b)
	up := create(t, s)
	write(t, up, b)
	_, err := up.Commit(t.Context(), d)
	must(t, err)
	return d
}

// wantBlob checks a blob's bytes by its digest.
func wantBlob(t *testing.T, s *Store, d digest.Digest) {
	t.Helper()
	r, info, err := s.Open(t.Context(), d)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Close()
	v := d.Verifier()
	if n, err := io.Copy(v, r); err != nil || n != info.Size || !v.Verified() {
		t.Errorf("blob %s does not verify: %d of %d bytes, %v", d, n, info.Size, err)
	}
}

// pattern gives n bytes without a short period.
func pattern(n int) []byte {
	b := make([]byte, n)
	x := uint32(n)*2654435761 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}
