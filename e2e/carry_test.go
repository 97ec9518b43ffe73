package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/tools"
	"github.com/atcr-dev/atcr/repo"
)

// program is atcr-hold, told of one hold by its environment.
type program struct {
	t    *testing.T
	path string
	dir  string
	url  string
}

func newProgram(t *testing.T, port int) *program {
	t.Helper()
	return &program{t: t, path: realtest.Build(t, programs, "./cmd/atcr-hold"), dir: filepath.Join(t.TempDir(), "hold"),
		url: fmt.Sprintf("http://localhost:%d", port)}
}

func (p *program) command(args ...string) *exec.Cmd {
	c := exec.CommandContext(p.t.Context(), p.path, args...)
	c.Env = append(os.Environ(), "HOLD_SERVER_PUBLIC_URL="+p.url, "HOLD_SERVER_ADDR="+strings.TrimPrefix(p.url, "http://"),
		"HOLD_SERVER_TEST_MODE=true",
		"HOLD_REGISTRATION_OWNER_DID=did:plc:ewvi7nxzyoun6zhxrhs64oiz", "HOLD_DATABASE_PATH="+p.dir)
	return c
}

func (p *program) run(args ...string) string {
	p.t.Helper()
	c := p.command(args...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		p.t.Fatalf("atcr-hold %q: %v\n%s%s", args, err, out, stderr.Bytes())
	}
	return string(out)
}

// open is the hold's repository, while no program runs on it.
func (p *program) open(f func(*repo.Repo)) {
	p.t.Helper()
	dir, err := hold.Config{Dir: p.dir, PublicURL: p.url, TestMode: true, OwnerDID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz"}.DataDir()
	if err != nil {
		p.t.Fatal(err)
	}
	o, err := datadir.OpenRepo(p.t.Context(), dir)
	if err != nil {
		p.t.Fatal(err)
	}
	f(o.Repo)
	if err := o.Close(); err != nil {
		p.t.Fatal(err)
	}
}

// TestCarried: a hold's repository goes through a pipe into another hold, blobs with it or from a folder; two CARs are one commit; the
// result is the same records under another DID, and @atproto/repo verifies it.
func TestCarried(t *testing.T) {
	t.Parallel()
	realtest.Need(t, tools.ATProto)
	first := newProgram(t, realtest.FreePort(t))
	server := realtest.Start(t, realtest.Command{Path: first.path, Args: []string{"serve"}, Env: first.command().Env})
	eventually(t, func() error { return getJSON(first.url+"/xrpc/_health", &struct{}{}) })
	if err := server.Stop(); err != nil { // it has made its captain record
		t.Fatal(err)
	}
	const blobs = 7
	var want map[string]repo.CID
	folder := t.TempDir()
	first.open(func(r *repo.Repo) {
		var ws []repo.Write
		for i := range 1500 {
			w := put(t, "io.atcr.hold.layer", fmt.Sprintf("l%05d", i), fmt.Append(nil, i))
			if i < blobs {
				w = withBlob(t, w, "blob", fmt.Append(nil, "blob ", i))
				c := repo.BlobCID(w.Blobs[0].Data)
				if err := os.WriteFile(filepath.Join(folder, c.String()), w.Blobs[0].Data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			ws = append(ws, w, put(t, "app.unknown.thing", fmt.Sprintf("t%05d", i), fmt.Append(nil, i)))
		}
		apply(t, r, ws)
		want = records(t, r)
	})
	if len(want) != 3001 {
		t.Fatalf("%d records", len(want))
	}

	piped := newProgram(t, realtest.FreePort(t))
	from, to := first.command("repo", "export"), piped.command("repo", "import", "--any-key", "-")
	text := pipe(t, from, to)
	if !strings.Contains(text, "3001 records created, 0 updated, 0 unchanged") {
		t.Errorf("the pipe says %q", text)
	}
	piped.same("through a pipe", want, blobs)

	foldered := newProgram(t, realtest.FreePort(t))
	file := filepath.Join(t.TempDir(), "bare.car")
	first.run("repo", "export", "--no-blobs", "-o", file)
	if out, err := foldered.command("repo", "import", "--any-key", file).CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "blob missing") {
		t.Errorf("without its blobs: %v %s", err, out)
	}
	foldered.run("repo", "import", "--any-key", "--blobs", folder, file)
	foldered.same("blobs from a folder", want, blobs)

	// Of two that overlap the last one wins, in one commit.
	second := newProgram(t, realtest.FreePort(t))
	second.open(func(r *repo.Repo) {
		apply(t, r, []repo.Write{put(t, "io.atcr.hold.layer", "l00009", []byte("changed")), put(t, "io.atcr.second", "only", []byte("here"))})
	})
	a, b := filepath.Join(t.TempDir(), "a.car"), filepath.Join(t.TempDir(), "b.car")
	first.run("repo", "export", "-o", a)
	second.run("repo", "export", "-o", b)
	both := newProgram(t, realtest.FreePort(t))
	both.open(func(r *repo.Repo) { apply(t, r, []repo.Write{put(t, "io.atcr.mine", "stays", []byte("x"))}) })
	var before int
	both.open(func(r *repo.Repo) { before = len(allEvents(t, r)) })
	if out := both.run("repo", "import", "--any-key", a, b); strings.Count(out, "commit ") != 1 {
		t.Errorf("two CARs: %s", out)
	}
	merged := map[string]repo.CID{}
	both.open(func(r *repo.Repo) {
		if n := len(allEvents(t, r)); n != before+1 {
			t.Errorf("%d events for one import", n-before)
		}
		merged = records(t, r)
	})
	second.open(func(r *repo.Repo) {
		for path, c := range records(t, r) {
			if merged[path] != c {
				t.Errorf("%s is %s, the last CAR has %s", path, merged[path], c)
			}
			delete(merged, path)
		}
	})
	for path, c := range want {
		if got, ok := merged[path]; ok && got != c {
			t.Errorf("%s is %s, wanted %s", path, got, c)
		}
	}
	if len(merged) != 3001-1+1 { // but l00009; and what stayed
		t.Errorf("%d records beside the second CAR's", len(merged))
	}
}

// same holds the records, the blobs and the identity of a hold against what they should be, and asks @atproto/repo.
func (p *program) same(name string, want map[string]repo.CID, blobs int) {
	p.t.Helper()
	p.open(func(r *repo.Repo) {
		if !strings.Contains(r.DID(), strings.Replace(strings.TrimPrefix(p.url, "http://"), ":", "%3A", 1)) {
			p.t.Errorf("%s: the DID is %s at %s", name, r.DID(), p.url)
		}
		got := records(p.t, r)
		if len(got) != len(want) {
			p.t.Errorf("%s: %d records, want %d", name, len(got), len(want))
		}
		for path, c := range want {
			if got[path] != c {
				p.t.Fatalf("%s: %s is %s, want %s", name, path, got[path], c)
			}
		}
		n := 0
		for b, err := range r.ListBlobs(p.t.Context(), repo.CID{}, "") {
			if err != nil {
				p.t.Fatal(err)
			}
			if data, err := r.GetBlob(p.t.Context(), b.CID); err != nil || repo.BlobCID(data.Data) != b.CID {
				p.t.Errorf("%s: blob %s: %v", name, b.CID, err)
			}
			n++
		}
		if n != blobs {
			p.t.Errorf("%s: %d blobs, want %d", name, n, blobs)
		}
		judge(p.t, r, name)
	})
}

func allEvents(t *testing.T, r *repo.Repo) (out []repo.Event) {
	t.Helper()
	for e, err := range r.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// withBlob has a write's record name a blob.
func withBlob(t testing.TB, w repo.Write, field string, data []byte) repo.Write {
	t.Helper()
	v, err := repo.RecordFrom(map[string]any{"$type": w.Collection, field: map[string]any{
		"$type": "blob", "ref": map[string]string{"$link": repo.BlobCID(data).String()}, "mimeType": "text/plain",
		"size": json.Number(fmt.Sprint(len(data)))}})
	if err != nil {
		t.Fatal(err)
	}
	w.Record, w.Blobs = v, []repo.Blob{{MediaType: "text/plain", Data: data}}
	return w
}

// pipe runs from | to, and returns what the second one prints.
func pipe(t *testing.T, from, to *exec.Cmd) string {
	t.Helper()
	var out, fromErr, toErr bytes.Buffer
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from.Stdout, to.Stdin, to.Stdout, from.Stderr, to.Stderr = w, r, &out, &fromErr, &toErr
	if err := from.Start(); err != nil {
		t.Fatal(err)
	}
	if err := to.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close() //nolint:errcheck // theirs now
	w.Close() //nolint:errcheck // theirs now
	if err := from.Wait(); err != nil {
		t.Fatalf("%v: %s", err, fromErr.Bytes())
	}
	if err := to.Wait(); err != nil {
		t.Fatalf("%v: %s", err, toErr.Bytes())
	}
	return out.String()
}
