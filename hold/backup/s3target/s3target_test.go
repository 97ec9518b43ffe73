package s3target_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/backup/s3target"
	"github.com/atcr-dev/atcr/hold/backup/targettest"
	"github.com/atcr-dev/atcr/internal/realtest"
)

func open(t *testing.T, s *realtest.S3Server, prefix string) *s3target.Target {
	t.Helper()
	to, err := s3target.Open("s3://"+s.Bucket+prefix, s3target.Options{Endpoint: s.Endpoint, AccessKey: s.AccessKey, SecretKey: s.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// A real S3 server: the target's contract, with and without a prefix, then a hold that is backed up and restored.
func TestS3(t *testing.T) {
	s := realtest.S3(t)
	for _, prefix := range []string{"/some/prefix", ""} {
		t.Run("contract"+prefix, func(t *testing.T) { targettest.Run(t, open(t, s, prefix)) })
	}
	t.Run("hold", func(t *testing.T) { carry(t, open(t, s, "/hold")) })
	t.Run("broken off parts", func(t *testing.T) { parts(t, s) })
	t.Run("wrong keys", func(t *testing.T) {
		to, err := s3target.Open("s3://"+s.Bucket, s3target.Options{Endpoint: s.Endpoint, AccessKey: s.AccessKey, SecretKey: "wrong"})
		if err != nil {
			t.Fatal(err)
		}
		if err := to.Put(t.Context(), "sets/x", strings.NewReader("x"), 1); err == nil || !strings.Contains(err.Error(), "s3://"+s.Bucket) {
			t.Errorf("put: %v", err)
		}
		if _, err := backup.List(t.Context(), to); err == nil {
			t.Error("list works")
		}
	})
}

func carry(t *testing.T, to backup.Target) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	cfg := hold.Config{
		Dir: filepath.Join(t.TempDir(), "hold"), PublicURL: "https://hold.example.com", OwnerDID: "did:web:owner.test",
		Log: slog.New(slog.DiscardHandler),
	}
	h, err := hold.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	o := backup.Options{Recipients: []age.Recipient{key.Recipient()}, Layers: true}
	var trust backup.Trust
	for range 3 {
		m, err := backup.Create(t.Context(), to, h.Contents(), o)
		if err != nil {
			t.Fatal(err)
		}
		trust.Keys = []string{m.SigningKey}
	}
	if gone, err := backup.Prune(t.Context(), to, h.Contents(), 1); err != nil || len(gone) != 2 {
		t.Errorf("pruned %v, %v", gone, err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	rep, err := backup.Verify(t.Context(), to, "", backup.VerifyOptions{Trust: trust, Keys: []age.Identity{key}})
	if err != nil || !rep.Identity {
		t.Errorf("verify: %+v, %v", rep, err)
	}
	cfg.Dir = filepath.Join(t.TempDir(), "new")
	dir, err := cfg.DataDir()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Restore(t.Context(), to, "", dir, backup.RestoreOptions{Trust: trust, Keys: []age.Identity{key}}); err != nil {
		t.Fatal(err)
	}
	again, err := hold.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.DID() != h.DID() {
		t.Errorf("restored %s, backed up %s", again.DID(), h.DID())
	}
}

// What a kill leaves of an upload in parts is ended by the next backup.
func parts(t *testing.T, s *realtest.S3Server) {
	client, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"),
		&minio.Options{Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	core := minio.Core{Client: client}
	id, err := core.NewMultipartUpload(t.Context(), s.Bucket, "half/layers/x", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := core.PutObjectPart(t.Context(), s.Bucket, "half/layers/x", id, 1, bytes.NewReader(make([]byte, 100)), 100,
		minio.PutObjectPartOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := open(t, s, "/half").Clean(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := core.ListObjectParts(t.Context(), s.Bucket, "half/layers/x", id, 0, 10); err == nil {
		t.Error("the upload is still there")
	}
}

func TestOpenRefuses(t *testing.T) {
	for to, o := range map[string]s3target.Options{
		"/folder":               {AccessKey: "a", SecretKey: "b"},
		"s3://":                 {AccessKey: "a", SecretKey: "b"},
		"s3://u:hunter2@bucket": {AccessKey: "a", SecretKey: "b"},
		"s3://bucket?k=hunter2": {AccessKey: "a", SecretKey: "b"},
		"s3://bucket/b":         {AccessKey: "a", SecretKey: "b", Endpoint: "https://u:hunter2@host"},
		"s3://bucket":           {},
		"s3://bucket/a":         {AccessKey: "a", SecretKey: "b", Endpoint: "host:1"},
	} {
		if _, err := s3target.Open(to, o); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s, %+v: %v", to, o, err)
		}
	}
}

// Nothing is asked of the service before it is used.
func ExampleOpen() {
	to, err := s3target.Open("s3://backups/hold.example.com", s3target.Options{
		Endpoint: "https://s3.example.com", AccessKey: "AKIAEXAMPLE", SecretKey: "from the environment",
	})
	fmt.Println(to, err)
	// Output: s3://backups/hold.example.com <nil>
}
