package hold_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/memstore"
)

// putPart sends one part raw.
func (h *testHold) putPart(u *user, id, n string, body io.Reader) (int, string) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPut, h.url+"/xrpc/io.atcr.hold.uploadPart", body)
	must(h.t, err)
	req.Header.Set("X-Upload-Id", id)
	req.Header.Set("X-Part-Number", n)
	if u != nil {
		token, err := u.token(h.t.Context(), h.DID(), "io.atcr.hold.uploadPart")
		must(h.t, err)
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	must(h.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(h.t, err)
	return resp.StatusCode, string(b)
}

func TestPartsInAnyOrder(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n)
	c, ctx := h.client(h.owner), t.Context()
	whole := data(7, 1_000_000)
	d := digest.FromBytes(whole)
	id, err := c.InitiateUpload(ctx, "")
	must(t, err)
	piece := func(n int) []byte { return whole[(n-1)*200_000 : n*200_000] }
	parts := make([]holdclient.Part, 5)
	put := func(n int) {
		p, err := c.UploadPart(ctx, id, n, 200_000, bytes.NewReader(piece(n)))
		must(t, err)
		parts[n-1] = p
	}
	put(3)
	put(2)
	if st, err := c.GetUpload(ctx, id); err != nil || st.Offset != 0 || len(st.Parts) != 0 {
		t.Fatalf("before part 1: %+v, %v", st, err)
	}
	if err := c.CompleteUpload(ctx, id, d, parts[1:3]); !errors.Is(err, holdclient.ErrMissingParts) {
		t.Fatalf("complete without part 1: %v", err)
	}
	put(5)
	put(1)
	put(3) // once more: the same
	if st, err := c.GetUpload(ctx, id); err != nil || st.Offset != 600_000 || len(st.Parts) != 3 {
		t.Fatalf("after parts 1 to 3: %+v, %v", st, err)
	}
	h.stop() // what was acknowledged survives, in the spool as well
	h.start()
	put(4)
	if code, body := h.putPart(nil, id, "2", bytes.NewReader(piece(4))); code != 400 || !strings.Contains(body, "other bytes") {
		t.Fatalf("part 2 with other bytes: %d %s", code, body)
	}
	if err := c.CompleteUpload(ctx, id, d, parts[:4]); !errors.Is(err, holdclient.ErrMissingParts) {
		t.Fatalf("complete with a part left out: %v", err)
	}
	forged := append([]holdclient.Part(nil), parts...)
	forged[2].ETag = "x"
	if err := c.CompleteUpload(ctx, id, d, forged); !errors.Is(err, holdclient.ErrMissingParts) {
		t.Fatalf("complete with a wrong etag: %v", err)
	}
	for i := range parts {
		parts[i].ETag = `"` + parts[i].ETag + `"` // as S3 clients send them
	}
	for range 2 { // the answer may have been lost
		must(t, c.CompleteUpload(ctx, id, d, parts))
	}
	if !bytes.Equal(h.read(h.owner, d), whole) {
		t.Fatal("the blob came back as something else")
	}
	if left, _ := filepath.Glob(filepath.Join(h.cfg.Dir, "spool", "*")); len(left) != 0 {
		t.Errorf("left in the spool: %v", left)
	}
}

// A part that breaks off is sent again from its beginning; what came of it is not doubled.
func TestPartBreaksOff(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n)
	c, ctx := h.client(h.owner), t.Context()
	whole := data(8, 6_000_000)
	id, err := c.InitiateUpload(ctx, "")
	must(t, err)
	broken := errors.New("cable cut")
	_, err = c.UploadPart(ctx, id, 1, int64(len(whole)), io.MultiReader(bytes.NewReader(whole[:4_000_000]), errReader{broken}))
	if err == nil {
		t.Fatal("a part that broke off was acknowledged")
	}
	if st, err := c.GetUpload(ctx, id); err != nil || st.Offset != 0 {
		t.Fatalf("after the break: %+v, %v", st, err)
	}
	var p holdclient.Part
	deadline := time.Now().Add(time.Minute)
	for { // the server may not have noticed the break yet
		if p, err = c.UploadPart(ctx, id, 1, int64(len(whole)), bytes.NewReader(whole)); err == nil || time.Now().After(deadline) {
			break
		}
	}
	must(t, err)
	d := digest.FromBytes(whole)
	must(t, c.CompleteUpload(ctx, id, d, []holdclient.Part{p}))
	if !bytes.Equal(h.read(h.owner, d), whole) {
		t.Fatal("the blob came back as something else")
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestUploadsAreTheirStarters(t *testing.T) {
	n := newNetwork(t)
	alice, bob := n.user("alice"), n.user("bob")
	h := newHold(t, n, func(c *hold.Config) {
		for _, u := range []*user{alice, bob} {
			c.Crew = append(c.Crew, hold.CrewMember{Member: u.did, Permissions: []string{"blob:write"}})
		}
	})
	ctx := t.Context()
	id, err := h.client(alice).InitiateUpload(ctx, "")
	must(t, err)
	p, err := h.client(nil).UploadPart(ctx, id, 1, 1, strings.NewReader("x"))
	must(t, err) // the id is the right
	if code, _ := h.putPart(bob, id, "2", strings.NewReader("y")); code != 400 {
		t.Errorf("another's token: %d", code)
	}
	d := digest.FromString("x")
	if err := h.client(bob).CompleteUpload(ctx, id, d, []holdclient.Part{p}); !errors.Is(err, holdclient.ErrInvalidUpload) {
		t.Errorf("completed by another: %v", err)
	}
	// Rights are asked anew at completion.
	h.stop()
	h.cfg.Crew[0].Permissions = []string{"blob:read"}
	h.start()
	if err := h.client(alice).CompleteUpload(ctx, id, d, []holdclient.Part{p}); !errors.Is(err, holdclient.ErrForbidden) {
		t.Errorf("completed without the right: %v", err)
	}
	must(t, h.client(nil).AbortUpload(ctx, id))
	if _, err := h.client(nil).GetUpload(ctx, id); !errors.Is(err, holdclient.ErrInvalidUpload) {
		t.Errorf("after abort: %v", err)
	}
}

func TestBadUploads(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) { c.MaxPart = 1000; c.MaxSpool = 6000 })
	id, err := h.client(h.owner).InitiateUpload(t.Context(), "")
	must(t, err)
	for _, tt := range []struct {
		name, id, part string
		body           int
		code           int
		want           string
	}{
		{"unknown id", "nope", "1", 1, 400, "InvalidUploadId"},
		{"no id", "", "1", 1, 400, "InvalidUploadId"},
		{"long id", strings.Repeat("x", 5000), "1", 1, 400, "InvalidUploadId"},
		{"part 0", id, "0", 1, 400, "InvalidPartNumber"},
		{"part -1", id, "-1", 1, 400, "InvalidPartNumber"},
		{"part x", id, "x", 1, 400, "InvalidPartNumber"},
		{"part 10001", id, "10001", 1, 400, "InvalidPartNumber"},
		{"part too large", id, "1", 1001, 413, "PayloadTooLarge"},
		{"early part", id, "9", 1000, 200, "etag"},
		{"one's share of the spool", id, "10", 1000, 429, "TooManyEarlyParts"},
		{"early and empty", id, "11", 0, 400, "UploadFailed"},
		{"in order", id, "1", 1000, 200, "etag"},
	} {
		code, body := h.putPart(nil, tt.id, tt.part, bytes.NewReader(data(1, tt.body)))
		if code != tt.code || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s, want %d %s", tt.name, code, body, tt.code, tt.want)
		}
	}
	for _, d := range []string{"sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:" + strings.Repeat("A", 64),
		"../../etc/passwd", "sha256:../../x"} {
		if code, body := h.call(h.owner, "POST", "io.atcr.hold.initiateUpload", "", map[string]any{"digest": d}); code != 400 ||
			body["error"] != "InvalidDigest" {
			t.Errorf("initiate %q: %d %v", d, code, body)
		}
		if code, body := h.call(h.owner, "POST", "io.atcr.hold.completeUpload", "",
			map[string]any{"uploadId": id, "digest": d}); code != 400 || body["error"] != "InvalidDigest" {
			t.Errorf("complete %q: %d %v", d, code, body)
		}
	}
	if code, _ := h.call(h.owner, "POST", "io.atcr.hold.initiateUpload", "", []byte("{")); code != 400 {
		t.Errorf("broken JSON: %d", code)
	}
	if code, _ := h.call(h.owner, "POST", "io.atcr.hold.initiateUpload", "", bytes.Repeat([]byte(" "), 100_000)); code != 413 {
		t.Errorf("large body: %d", code)
	}
	if code, _ := h.call(h.owner, "GET", "io.atcr.hold.initiateUpload", "", nil); code != 405 {
		t.Errorf("GET of a procedure: %d", code)
	}
	if code, body := h.call(nil, "GET", "io.atcr.hold.nothing", "", nil); code != 501 || body["error"] != "MethodNotImplemented" {
		t.Errorf("unknown method: %d %v", code, body)
	}
}

// Many clients push the same layer at once: one blob, no error.
func TestSameLayerAtOnce(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n)
	blob := data(3, 100_000)
	d := digest.FromBytes(blob)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			ctx, c := t.Context(), h.client(h.owner)
			id, err := c.InitiateUpload(ctx, d)
			var p holdclient.Part
			if err == nil {
				p, err = c.UploadPart(ctx, id, 1, int64(len(blob)), bytes.NewReader(blob))
			}
			if err == nil {
				err = c.CompleteUpload(ctx, id, d, []holdclient.Part{p})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	q, err := h.client(h.owner).GetQuota(t.Context(), h.owner.did)
	if err != nil || q.UniqueBlobs != 1 || q.TotalSize != 100_000 {
		t.Errorf("quota: %+v, %v", q, err)
	}
	if !bytes.Equal(h.read(h.owner, d), blob) {
		t.Error("the blob came back as something else")
	}
}

// TestSpaceRunsOut: 507 and a log line at each place, nothing visible, and after space returns all works.
func TestSpaceRunsOut(t *testing.T) {
	for _, op := range []storage.Op{storage.OpCreate, storage.OpWrite, storage.OpFlush, storage.OpCommit} {
		t.Run(string(op), func(t *testing.T) {
			n := newNetwork(t)
			faults := storage.NewFaults(memstore.New())
			h := newHold(t, n, func(c *hold.Config) { c.Storage = faults })
			ctx, c, blob := t.Context(), h.client(h.owner), data(4, 200_000)
			d := digest.FromBytes(blob)
			push := func() error {
				id, err := c.InitiateUpload(ctx, d)
				if err != nil {
					return err
				}
				p, err := c.UploadPart(ctx, id, 1, int64(len(blob)), bytes.NewReader(blob))
				if err != nil {
					return err
				}
				return c.CompleteUpload(ctx, id, d, []holdclient.Part{p})
			}
			faults.Add(storage.Fault{Op: op, Nth: 1, Err: storage.ErrNoSpace})
			if err := push(); !errors.Is(err, holdclient.ErrNoSpace) {
				t.Fatalf("got %v, want no space", err)
			}
			if faults.Fired() == 0 {
				t.Fatal("the fault did not fire")
			}
			if !strings.Contains(h.log.String(), "no space left") {
				t.Error("the log says nothing")
			}
			if _, err := c.StatBlob(ctx, h.owner.did, d); !errors.Is(err, holdclient.ErrNotFound) {
				t.Errorf("visible: %v", err)
			}
			must(t, push())
		})
	}
}

// A commit whose answer is lost, done or not, is found out by asking again.
func TestCommitAnswerLost(t *testing.T) {
	for _, done := range []bool{false, true} {
		n := newNetwork(t)
		faults := storage.NewFaults(memstore.New(), storage.Fault{Op: storage.OpCommit, Done: done})
		h := newHold(t, n, func(c *hold.Config) { c.Storage = faults })
		ctx, c, blob := t.Context(), h.client(h.owner), data(5, 10_000)
		d := digest.FromBytes(blob)
		id, err := c.InitiateUpload(ctx, d)
		must(t, err)
		p, err := c.UploadPart(ctx, id, 1, int64(len(blob)), bytes.NewReader(blob))
		must(t, err)
		if err := c.CompleteUpload(ctx, id, d, []holdclient.Part{p}); !errors.Is(err, holdclient.ErrUnavailable) {
			t.Fatalf("done=%v: %v", done, err)
		}
		if faults.Fired() != 1 {
			t.Fatal("the fault did not fire")
		}
		must(t, c.CompleteUpload(ctx, id, d, []holdclient.Part{p}))
		if !bytes.Equal(h.read(h.owner, d), blob) {
			t.Errorf("done=%v: the blob came back as something else", done)
		}
	}
}

// What rests for a day is thrown away: rows, bytes and spool.
func TestOldUploads(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n)
	ctx, c := t.Context(), h.client(h.owner)
	id, err := c.InitiateUpload(ctx, "")
	must(t, err)
	for _, n := range []int{1, 3} {
		_, err = c.UploadPart(ctx, id, n, 2_000_000, bytes.NewReader(data(1, 2_000_000)))
		must(t, err)
	}
	must(t, h.Maintain(ctx))
	if _, err := c.GetUpload(ctx, id); err != nil {
		t.Fatalf("a fresh upload is gone: %v", err)
	}
	h.net.now.Store(26 * 3600)
	must(t, h.Maintain(ctx))
	if code, _ := h.putPart(nil, id, "2", strings.NewReader("x")); code != 400 {
		t.Errorf("an old upload takes a part: %d", code)
	}
	var left []string
	_ = filepath.WalkDir(h.cfg.Dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && (strings.Contains(path, "spool") || strings.Contains(path, "uploads")) &&
			!strings.HasPrefix(e.Name(), ".") {
			left = append(left, path)
		}
		return nil
	})
	if len(left) != 0 {
		t.Errorf("left on the disk: %v", left)
	}
}

func TestFolderInUse(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n)
	_, err := hold.New(context.Background(), h.cfg)
	if !errors.Is(err, durable.ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("a second hold on the folder: %v", err)
	}
}

// sha512, announced or not, and the blob without bytes.
func TestOtherDigests(t *testing.T) {
	n := newNetwork(t)
	h := newHold(t, n)
	ctx, c, blob := t.Context(), h.client(h.owner), data(11, 100_000)
	long := digest.SHA512.FromBytes(blob)
	for _, tt := range []struct {
		name            string
		announced, real digest.Digest
		parts           [][]byte
	}{
		{"sha512 announced", long, long, [][]byte{blob}},
		{"sha512 not announced", "", long, [][]byte{blob[:5], blob[5:]}},
		{"empty, no part", "", digest.FromString(""), nil},
		{"empty, an empty part", "", digest.SHA512.FromString(""), [][]byte{{}}},
	} {
		id, err := c.InitiateUpload(ctx, tt.announced)
		must(t, err)
		var parts []holdclient.Part
		var size int64
		for i, b := range tt.parts {
			p, err := c.UploadPart(ctx, id, i+1, int64(len(b)), bytes.NewReader(b))
			must(t, err)
			parts, size = append(parts, p), size+int64(len(b))
		}
		must(t, c.CompleteUpload(ctx, id, tt.real, parts))
		if got, err := c.StatBlob(ctx, h.owner.did, tt.real); err != nil || got != size {
			t.Errorf("%s: %d, %v, want %d", tt.name, got, err, size)
		}
	}
}
