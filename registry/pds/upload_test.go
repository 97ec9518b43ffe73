package pds_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/iotest"
	"time"

	_ "crypto/sha512"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
)

func randomBytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = src.Read(b)
	return b
}

// begin starts an upload and lets go of it.
func begin(t testing.TB, r registry.Repository) string {
	t.Helper()
	up, err := r.StartUpload(t.Context(), registry.UploadHint{})
	must(t, err)
	must(t, up.Close())
	return up.ID()
}

func open_(t testing.TB, r registry.Repository, id string) registry.Upload {
	t.Helper()
	up, err := r.Upload(t.Context(), id)
	must(t, err)
	return up
}

// TestUploadResumes cuts an upload short in every way, restarts either server, and goes on from what Range says.
func TestUploadResumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	data := randomBytes(40<<20, 1)
	id := begin(t, w.repo("alice", "alice", "app"))

	// The client leaves after 20 MiB and a bit: what came is kept.
	up := open_(t, w.repo("alice", "alice", "app"), id)
	cut := errors.New("client left")
	_, err := up.ReadFrom(io.MultiReader(bytes.NewReader(data[:20<<20+77]), iotest.ErrReader(cut)))
	if !errors.Is(err, cut) {
		t.Fatal(err)
	}
	if up.Size() != 20<<20+77 {
		t.Fatalf("kept %d", up.Size())
	}
	if _, err := w.repo("alice", "alice", "app").Upload(t.Context(), id); !errors.Is(err, registry.ErrUploadBusy) {
		t.Errorf("a second writer: %v", err)
	}
	must(t, up.Close())

	// The AppView restarts; the hold has a part that the AppView's row does not know, since all its answers were lost.
	w.restart()
	up = open_(t, w.repo("alice", "alice", "app"), id)
	at := up.Size()
	if at != 20<<20+77 {
		t.Fatalf("after a restart %d", at)
	}
	fault := w.holdProxy.Inject(realtest.Fault{Kind: realtest.DropDone, Path: "uploadPart", Times: -1})
	lost := w.holdProxy.Inject(realtest.Fault{Kind: realtest.Drop, Path: "getUpload", Times: -1})
	if _, err := up.ReadFrom(bytes.NewReader(data[at : at+2<<20])); !errors.Is(err, registry.ErrUnavailable) {
		t.Fatalf("a hold whose answers are lost: %v", err)
	}
	must(t, up.Close())
	if fault.Fired() == 0 || lost.Fired() == 0 {
		t.Fatal("the faults never fired")
	}
	w.holdProxy.Clear()

	// The hold restarts.
	w.holdServer.Close()
	w.startHold()
	w.restart()
	up = open_(t, w.repo("alice", "alice", "app"), id)
	at = up.Size()
	if at < 20<<20+77 || at > 22<<20+77 {
		t.Fatalf("after both: %d", at)
	}
	must1(up.ReadFrom(bytes.NewReader(data[at:])))
	if _, err := up.Commit(t.Context(), digest.FromString("another")); !errors.Is(err, registry.ErrDigestInvalid) {
		t.Errorf("another digest: %v", err)
	}
	desc, err := up.Commit(t.Context(), digest.FromBytes(data))
	if err != nil && !errors.Is(err, registry.ErrUploadUnknown) {
		t.Fatal(err)
	}
	if err == nil && desc.Size != int64(len(data)) {
		t.Errorf("size %d", desc.Size)
	}
	must(t, up.Close())
	if err != nil {
		t.Skip("the hold drops an upload whose digest was wrong")
	}
	b, err := w.repo("alice", "alice", "app").Blob(t.Context(), digest.FromBytes(data))
	must(t, err)
	body, err := b.Open(t.Context(), registry.Range{})
	must(t, err)
	defer body.Close()
	if got, err := digest.FromReader(body); err != nil || got != digest.FromBytes(data) {
		t.Errorf("pulled %s %v", got, err)
	}
	_, err = w.repo("alice", "alice", "app").Upload(t.Context(), id)
	wantKind(t, err, registry.ErrUploadUnknown)
}

func must1[T any](_ T, err error) {
	if err != nil {
		panic(err)
	}
}

// TestUploadCommitIsRepeated lets the answer of completeUpload get lost with the AppView: the client's PUT again is answered well.
func TestUploadCommitIsRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	data := randomBytes(1000, 2)
	id := begin(t, w.repo("alice", "alice", "app"))
	up := open_(t, w.repo("alice", "alice", "app"), id)
	must1(up.ReadFrom(bytes.NewReader(data)))
	fault := w.holdProxy.Inject(realtest.Fault{Kind: realtest.DropDone, Path: "completeUpload", Match: signed("hold", "completeUpload")})
	stat := w.holdProxy.Inject(realtest.Fault{Kind: realtest.Drop, Method: "HEAD", Path: "getBlob", Times: 3, Optional: true})
	_, err := up.Commit(t.Context(), digest.FromBytes(data))
	must(t, up.Close())
	t.Logf("the client is told %v; stat failed %d times", err, stat.Fired())
	if fault.Fired() != 1 {
		t.Fatal("the fault never fired")
	}
	w.holdProxy.Clear()
	w.restart()
	if err != nil {
		up = open_(t, w.repo("alice", "alice", "app"), id)
		_, err = up.Commit(t.Context(), digest.FromBytes(data))
		must(t, err)
		must(t, up.Close())
	}
	_, err = w.repo("alice", "alice", "app").Blob(t.Context(), digest.FromBytes(data))
	must(t, err)
}

// TestUploadWhoseClientLeaves hangs up while the hold completes an upload, which it does to the end.
func TestUploadWhoseClientLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	data := randomBytes(1000, 3)
	up := open_(t, w.repo("alice", "alice", "app"), begin(t, w.repo("alice", "alice", "app")))
	must1(up.ReadFrom(bytes.NewReader(data)))
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	fault := w.holdProxy.Inject(realtest.Fault{Kind: realtest.Delay, Path: "completeUpload", Times: -1, Wait: 500 * time.Millisecond,
		Match: func(*http.Request) bool { leave(); return true }})
	_, err := up.Commit(ctx, digest.FromBytes(data))
	must(t, err)
	must(t, up.Close())
	if fault.Fired() == 0 {
		t.Fatal("the hold was not asked")
	}
	_, err = w.repo("alice", "alice", "app").Blob(t.Context(), digest.FromBytes(data))
	must(t, err)
}

// TestUploadKinds sends blobs of every kind of size and digest.
func TestUploadKinds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	r := w.repo("alice", "alice", "app")
	for _, n := range []int{0, 1, 512 << 10, 16 << 20, 16<<20 + 1} {
		data := randomBytes(n, uint64(n))
		for _, d := range []digest.Digest{digest.SHA256.FromBytes(data), digest.SHA512.FromBytes(data)} {
			// In one request, as a POST with a digest.
			up, err := r.StartUpload(t.Context(), registry.UploadHint{Digest: d, Size: int64(n)})
			must(t, err)
			must1(up.ReadFrom(bytes.NewReader(data)))
			_, err = up.Commit(t.Context(), d)
			must(t, err)
			must(t, up.Close())
			b, err := r.Blob(t.Context(), d)
			must(t, err)
			body, err := b.Open(t.Context(), registry.Range{})
			must(t, err)
			got, err := io.ReadAll(body)
			body.Close()
			must(t, err)
			if b.Size != int64(n) || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %s: got %d, size %d", n, d.Algorithm(), len(got), b.Size)
			}
		}
	}
	// Many at once with little memory for parts.
	errs := make(chan error)
	for i := range 12 {
		go func() { errs <- upload(t.Context(), r, randomBytes(9<<20, uint64(100+i))) }()
	}
	for range 12 {
		must(t, <-errs)
	}
	// One layer from many clients.
	same := randomBytes(10_000, 99)
	for range 64 {
		go func() { errs <- upload(t.Context(), r, same) }()
	}
	for range 64 {
		must(t, <-errs)
	}
}

// TestUploadEnds cancels uploads, lets them run out, and gives them to nobody else.
func TestUploadEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	r := w.repo("alice", "alice", "app")
	id := begin(t, r)
	_, err := w.repo("bob", "alice", "app").Upload(t.Context(), id)
	wantKind(t, err, registry.ErrUploadUnknown)
	_, err = w.repo("alice", "alice", "other").Upload(t.Context(), id)
	wantKind(t, err, registry.ErrUploadUnknown)
	_, err = r.Upload(t.Context(), "nothing")
	wantKind(t, err, registry.ErrUploadUnknown)
	up := open_(t, r, id)
	must1(up.ReadFrom(bytes.NewReader([]byte("some"))))
	must(t, up.Cancel(t.Context()))
	must(t, up.Close())
	_, err = r.Upload(t.Context(), id)
	wantKind(t, err, registry.ErrUploadUnknown)

	id = begin(t, r)
	w.restart()
	w.clock.advance(25 * time.Hour)
	_, err = w.repo("alice", "alice", "app").Upload(t.Context(), id)
	wantKind(t, err, registry.ErrUploadUnknown)

	// Who may not push starts nothing.
	_, err = w.repo("", "alice", "app").StartUpload(t.Context(), registry.UploadHint{})
	if e := wantKind(t, err, registry.ErrUnauthorized); e.Challenge == "" {
		t.Error("no challenge")
	}
	_, err = w.repo("bob", "alice", "app").StartUpload(t.Context(), registry.UploadHint{})
	wantKind(t, err, registry.ErrDenied)
	_, err = w.repo("", "alice", "app").Mount(t.Context(), digest.FromString("x"), "")
	wantKind(t, err, registry.ErrUnauthorized)
}

func sha512Of(s string) digest.Digest { return digest.SHA512.FromString(s) }
