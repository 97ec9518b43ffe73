package realtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// peer is a registry that is not ours: crane's.
func peer(t *testing.T) string {
	t.Helper()
	Need(t, tools.Crane)
	addr := fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	p := Start(t, Command{Path: tools.Path(tools.Crane), Args: []string{"registry", "serve", "--address", addr}})
	if err := p.WaitListening(addr, time.Minute); err != nil {
		t.Fatal(err)
	}
	return addr
}

func TestClientsPushAndPull(t *testing.T) {
	registry := peer(t)
	img := Image(t, ImageOptions{SizeMB: 2, Layers: 3})
	for _, c := range Clients(t, Login{Registry: registry}) {
		ref := registry + "/test/" + c.Name() + ":v1"
		pushed, err := c.Push(img, ref)
		if err != nil {
			t.Fatalf("%s push: %v", c.Name(), err)
		}
		if !strings.HasPrefix(pushed, "sha256:") {
			t.Fatalf("%s push gave digest %q", c.Name(), pushed)
		}
		pulled, err := c.Pull(ref)
		if err != nil {
			t.Fatalf("%s pull: %v", c.Name(), err)
		}
		if pulled != pushed {
			t.Errorf("%s pushed %s and pulled %s", c.Name(), pushed, pulled)
		}
		if keeps := c.Name() == "crane" || c.Name() == "skopeo"; keeps && pushed != img.Digest {
			t.Errorf("%s pushed %s, the image is %s", c.Name(), pushed, img.Digest)
		}
	}
}

func TestIndexAndArtifact(t *testing.T) {
	registry := peer(t)
	index := Index(t, ImageOptions{Layers: 1})
	crane, skopeo := NewCrane(t, Login{Registry: registry}), NewSkopeo(t, Login{Registry: registry})
	for name, push := range map[string]func(*IndexFile, string) (string, error){"crane": crane.PushIndex, "skopeo": skopeo.PushIndex} {
		ref := registry + "/test/index-" + name + ":v1"
		pushed, err := push(index, ref)
		if err != nil || name == "crane" && pushed != index.Digest {
			t.Errorf("%s pushed index %s as %s, %v", name, index.Digest, pushed, err)
		}
		for _, pull := range []Client{crane, skopeo} {
			if pulled, err := pull.Pull(ref); err != nil || pulled != pushed {
				t.Errorf("%s pulled index %s as %s, %v", pull.Name(), pushed, pulled, err)
			}
		}
	}
	oras := NewOras(t, Login{Registry: registry})
	ref := registry + "/test/artifact:v1"
	digest, err := oras.PushFile(File(t, "data.bin", 1<<16, 1), "application/vnd.test", ref)
	if err != nil || digest == "" {
		t.Fatalf("oras push: %q, %v", digest, err)
	}
	if got, err := oras.PullFile(ref); err != nil || len(got) != 1<<16 {
		t.Errorf("oras pull: %d bytes, %v", len(got), err)
	}
	attached, err := oras.Attach(File(t, "sbom.json", 100, 2), "application/vnd.test.sbom", ref)
	if err != nil {
		t.Fatal(err)
	}
	found, err := oras.Discover(ref)
	if err != nil || !strings.Contains(found, attached) {
		t.Errorf("oras discover has no %s: %v\n%s", attached, err, found)
	}
}

func TestConformanceCounts(t *testing.T) {
	r := Conformance(t, ConformanceOptions{Login: Login{Registry: peer(t)}, Repository1: "a/one", Repository2: "a/two"})
	if r.Total < 500 || r.Pass == 0 || r.Fail == 0 || len(r.Failures) == 0 || r.Pass+r.Fail+r.Skip+r.Disabled != r.Total {
		t.Errorf("%s; the peer is known to pass some and fail some; %d failures listed", r, len(r.Failures))
	}
}

func TestNetwork(t *testing.T) {
	n := Network(t, NetworkOptions{PDSes: 2, Proxied: true})
	alice := n.Account("alice")
	if pass := n.AppPassword(t, "alice"); len(pass) != 19 {
		t.Errorf("app password %q", pass)
	}
	in := map[string]any{"repo": alice.DID, "collection": "io.atcr.tag", "rkey": "a",
		"record": map[string]any{"$type": "io.atcr.tag", "tag": "a"}}
	if err := n.Call(t.Context(), http.MethodPost, alice.PDS, "com.atproto.repo.putRecord", n.Session(t, "alice"), in, nil); err != nil {
		t.Fatal(err)
	}
	n.StopPDS(t, alice.Index)
	if _, err := ListRecords(t.Context(), alice.PDS, alice.DID, "io.atcr.tag"); err == nil {
		t.Error("the stopped PDS answers")
	}
	n.StartPDS(t, alice.Index)
	if got := n.Records(t, "alice", "io.atcr.tag"); len(got) != 1 || got[0].Value["tag"] != "a" {
		t.Errorf("records after a restart: %+v", got)
	}
	if got := n.ServiceAuth(t, "bob", "did:web:localhost%3A8080", "io.atcr.hold.requestCrew"); strings.Count(got, ".") != 2 {
		t.Errorf("service token %q", got)
	}
	limit := n.Proxy[alice.Index].Inject(Fault{Kind: Fail, Path: "listRecords", RetryAfter: 3 * time.Second})
	_, err := ListRecords(t.Context(), alice.PDS, alice.DID, "io.atcr.tag")
	if err == nil || !strings.Contains(err.Error(), "429") || limit.Fired() != 1 {
		t.Errorf("429 asked for, got %v, fired %d", err, limit.Fired())
	}
	resp, err := http.Get(n.PLC + "/" + alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc struct {
		VerificationMethod []struct{ Type string }
		Service            []struct{ ServiceEndpoint string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if doc.VerificationMethod[0].Type != "Multikey" || doc.Service[0].ServiceEndpoint != alice.PDS {
		t.Errorf("document %+v, want a Multikey and %s", doc, alice.PDS)
	}
}

func TestFaultProxy(t *testing.T) {
	const size = 1 << 20
	var done, gotBytes int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		gotBytes = len(body)
		if err == nil {
			done++
		}
		w.Write(make([]byte, size))
	}))
	defer server.Close()
	ask := func(url string) (status, bytes int, err error) {
		resp, err := http.Post(url+"/a/b", "text/plain", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			return 0, 0, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, len(body), err
	}
	for _, tt := range []struct {
		name   string
		fault  Fault
		status int  // of the second of three requests; 0: no answer
		whole  bool // its body arrived
		done   int  // requests that the server carried out, of three
	}{
		{"fail", Fault{Kind: Fail, Status: 503}, 503, true, 2},
		{"failed but done", Fault{Kind: FailDone}, 500, true, 3},
		{"dropped", Fault{Kind: Drop}, 0, false, 2},
		{"dropped but done", Fault{Kind: DropDone}, 0, false, 3},
		{"request cut", Fault{Kind: CutRequest, After: 1000}, 0, false, 2},
		{"answer cut", Fault{Kind: CutResponse, After: 1000}, 200, false, 3},
		{"delayed", Fault{Kind: Delay, Wait: time.Millisecond}, 200, true, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			done = 0
			p := NewFaultProxy(t, server.URL)
			tt.fault.Nth, tt.fault.Path, tt.fault.Method = 2, "/a/", http.MethodPost
			injected := p.Inject(tt.fault)
			for i := range 3 {
				status, n, err := ask(p.URL)
				if i != 1 {
					if status != 200 || n != size || err != nil {
						t.Errorf("request %d: status %d, %d bytes, %v", i, status, n, err)
					}
					continue
				}
				if status != tt.status || (err == nil) != tt.whole {
					t.Errorf("status %d, error %v; want %d, whole %v", status, err, tt.status, tt.whole)
				}
			}
			if injected.Fired() != 1 || done != tt.done {
				t.Errorf("fired %d times, want 1; the server did %d, want %d (last body %d bytes)", injected.Fired(), done, tt.done, gotBytes)
			}
			if got := p.Requests(); len(got) != 3 || got[0] != "POST /a/b" {
				t.Errorf("requests %q", got)
			}
		})
	}
}

// TestWatch: exchanges are seen whole, and pass as they were; what a fault kept from the server is not seen.
func TestWatch(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Test", "yes")
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "got %s", body)
	}))
	defer server.Close()
	p := NewFaultProxy(t, server.URL)
	var seen []string
	p.Watch("/seen", func(e Exchange) {
		seen = append(seen, fmt.Sprintf("%s %s %d %s %s", e.Request.URL.Path, e.Body, e.Status, e.Header.Get("X-Test"), e.Answer))
	})
	p.Inject(Fault{Kind: Fail, Path: "/seen", Nth: 2, Header: http.Header{"X-Made": {"up"}}})
	p.Inject(Fault{Kind: DropDone, Path: "/seen", Nth: 2}) // the third
	for i, want := range []string{"202 yes got one", "500  {", "", "202 yes got one"} {
		path := "/seen"
		if i == 3 {
			path = "/other"
		}
		resp, err := http.Post(p.URL+path, "text/plain", strings.NewReader("one"))
		if (err != nil) != (want == "") {
			t.Fatalf("%d: %v", i, err)
		}
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		got := fmt.Sprintf("%d %s %s", resp.StatusCode, resp.Header.Get("X-Test"), body)
		if err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%d: %s, %v", i, got, err)
		}
		if i == 1 && resp.Header.Get("X-Made") != "up" {
			t.Errorf("headers of a made-up answer: %v", resp.Header)
		}
	}
	const once = "/seen one 202 yes got one"
	if strings.Join(seen, "; ") != once+"; "+once {
		t.Errorf("seen: %q", seen)
	}
}

func TestImageIsDeterministic(t *testing.T) {
	a, b := Image(t, ImageOptions{Seed: 7}), Image(t, ImageOptions{Seed: 7})
	if a.Digest != b.Digest || a.Digest == Image(t, ImageOptions{Seed: 8}).Digest {
		t.Error("an image depends on more or less than its options")
	}
	if a.Size < 1<<20 || len(a.Blobs) != 4 {
		t.Errorf("size %d, blobs %d; want at least 1 MiB, 3 layers and a config", a.Size, len(a.Blobs))
	}
}

func TestProcessStops(t *testing.T) {
	p := Start(t, Command{Path: "sh", Args: []string{"-c", "echo ready; read x; echo got $x; sleep 1000 & wait"}})
	if line, err := p.Line(time.Minute); err != nil || line != "ready" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := p.Send("word"); err != nil {
		t.Fatal(err)
	}
	if line, err := p.Line(time.Minute); err != nil || line != "got word" {
		t.Fatalf("%q, %v", line, err)
	}
	p.Kill()
	if _, err := p.Line(time.Minute); err == nil {
		t.Error("a line from a killed program")
	}
}
