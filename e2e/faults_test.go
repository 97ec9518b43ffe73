package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
)

// The owner's PDS is down: what was seen still pulls and says how old it is, a
// push says which server is down.
func TestPDSDown(t *testing.T) {
	t.Parallel()
	s := startServices(t, servicesOptions{})
	img := realtest.Image(t, realtest.ImageOptions{Layers: 2, Seed: 800})
	must(realtest.NewCrane(t, s.Login).Push(img, s.ref("seen", ":v1")))(t)
	must(realtest.NewCrane(t, s.anonymous()).Pull(s.ref("seen", ":v1")))(t)
	name := s.name("seen")
	push := registryToken(t, s.Login, "repository:"+name+":push,pull")
	manifest := must(realtest.NewCrane(t, s.Login).Run("manifest", s.ref("seen", ":v1")))(t)
	s.net.StopPDS(t, 0)

	// The copy is asked afresh once a minute at the latest; until then nobody can know.
	eventuallyIn(t, 90*time.Second, func() string {
		resp, body := do(t, s.anonymous(), http.MethodGet, "/v2/"+name+"/manifests/v1", "repository:"+name+":pull", nil)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Docker-Content-Digest") != img.Digest {
			t.Fatalf("an image seen before: %s\n%.300s", resp.Status, body)
		}
		if w := resp.Header.Get("Warning"); !strings.HasPrefix(w, "299 ") {
			return "no Warning: " + w
		}
		return ""
	})
	if got := must(realtest.NewSkopeo(t, s.anonymous()).Pull(s.ref("seen", ":v1")))(t); got != img.Digest {
		t.Errorf("pulled %s, want %s", got, img.Digest)
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+s.Registry+"/v2/"+name+"/manifests/v2",
		strings.NewReader(manifest))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+push)
	req.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body := readAll(t, resp)
	host := strings.TrimPrefix(s.PDS, "http://")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, host) {
		t.Errorf("push: %s, Retry-After %q, want 503, a time and the PDS's name %s:\n%s", resp.Status, resp.Header.Get("Retry-After"), host, body)
	}

	s.net.StartPDS(t, 0)
	must(realtest.NewCrane(t, s.Login).Push(img, s.ref("seen", ":v2")))(t)
}

// Each step at the PDS fails once, and once fails though it was done. A push
// that is acknowledged stands everywhere; one that is refused is nowhere.
func TestPDSFaults(t *testing.T) {
	t.Parallel()
	s := startServices(t, servicesOptions{Network: realtest.NetworkOptions{Proxied: true}})
	proxy := s.net.Proxy[0]
	crane := realtest.NewCrane(t, s.Login)
	for i, tt := range []struct {
		name  string
		fault realtest.Fault
		says  string // in a refusal
	}{
		{"uploadBlob fails", realtest.Fault{Kind: realtest.Fail, Path: "uploadBlob"}, "UNAVAILABLE"},
		{"uploadBlob is done but fails", realtest.Fault{Kind: realtest.FailDone, Path: "uploadBlob"}, "UNAVAILABLE"},
		{"uploadBlob's request is cut", realtest.Fault{Kind: realtest.CutRequest, Path: "uploadBlob", After: 50}, "UNAVAILABLE"},
		{"applyWrites fails", realtest.Fault{Kind: realtest.Fail, Path: "applyWrites"}, "UNAVAILABLE"},
		{"applyWrites is done but fails", realtest.Fault{Kind: realtest.FailDone, Path: "applyWrites"}, "UNAVAILABLE"},
		{"applyWrites is not done and never answers", realtest.Fault{Kind: realtest.Drop, Path: "applyWrites"}, "UNAVAILABLE"},
		{"applyWrites is done and never answers", realtest.Fault{Kind: realtest.DropDone, Path: "applyWrites"}, "UNAVAILABLE"},
		{"applyWrites is refused for a while", realtest.Fault{Kind: realtest.Fail, Path: "applyWrites", RetryAfter: time.Second},
			"TOOMANYREQUESTS"},
		{"uploadBlob fails for good", realtest.Fault{Kind: realtest.Fail, Path: "uploadBlob", Times: -1}, "UNAVAILABLE"},
		{"applyWrites fails for good", realtest.Fault{Kind: realtest.Fail, Path: "applyWrites", Times: -1}, "UNAVAILABLE"},
		{"applyWrites is not done and never answers, for good", realtest.Fault{Kind: realtest.Drop, Path: "applyWrites", Times: -1},
			"UNAVAILABLE"},
		{"getServiceAuth fails", realtest.Fault{Kind: realtest.Fail, Path: "getServiceAuth", Optional: true}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := realtest.Image(t, realtest.ImageOptions{Layers: 1, Seed: uint64(810 + i)})
			fired := proxy.Inject(tt.fault)
			err := pushOnce(img, s.ref("faults", ":v1"), s.Login)
			proxy.Clear()
			if tt.fault.Times < 0 && err == nil {
				t.Error("acknowledged, though the PDS never did it")
			}
			t.Logf("fired %d times; the first push: %v", fired.Fired(), err)
			if err != nil {
				if !strings.Contains(err.Error(), tt.says) {
					t.Errorf("the refusal does not say %s", tt.says)
				}
				for _, r := range s.records(t, "io.atcr.manifest") {
					if r.Value["digest"] == img.Digest {
						t.Errorf("refused, but the record %s stands", r.URI)
					}
				}
				must(crane.Push(img, s.ref("faults", ":v1")))(t)
			}
			find(t, s.records(t, "io.atcr.manifest"), map[string]any{"digest": img.Digest})
			find(t, s.records(t, "io.atcr.tag"), map[string]any{"repository": "faults", "tag": "v1"})
			eventually(t, func() error { return s.holdKnows("faults", img.Digest, img.Blobs) })
			if got := must(crane.Pull(s.ref("faults", ":v1")))(t); got != img.Digest {
				t.Errorf("pulled %s, want %s", got, img.Digest)
			}
		})
	}
}

// An upload outlives a restart of either server and goes on where Range says.
func TestUploadResumes(t *testing.T) {
	t.Parallel()
	s := startServices(t, servicesOptions{})
	file := must(readFile(realtest.File(t, "layer", 40<<20, 820)))(t)
	name := s.name("resume")
	token := registryToken(t, s.Login, "repository:"+name+":push,pull")
	resp, body := send(t, token, http.MethodPost, "http://"+s.Registry+"/v2/"+name+"/blobs/uploads/", nil)
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%s\n%s", resp.Status, body)
	}
	at := location(t, resp)
	if resp, body = send(t, token, http.MethodPatch, at, file[:20<<20]); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("PATCH: %s\n%s", resp.Status, body)
	}
	for _, restart := range []struct {
		name string
		do   func()
	}{
		{"AppView", func() { _ = s.app.Kill(); s.startAppView(t) }},
		{"hold", func() { _ = s.hold.Kill(); s.startHold(t) }},
	} {
		restart.do()
		resp, body = send(t, token, http.MethodGet, at, nil)
		if resp.StatusCode != http.StatusNoContent {
			t.Fatalf("after the %s was killed: %s\n%s", restart.name, resp.Status, body)
		}
	}
	have := rangeEnd(t, resp)
	if have < 16<<20 || have > 20<<20 {
		t.Fatalf("Range says %d bytes are there; a part of 16 MiB was acknowledged", have)
	}
	at = location(t, resp)
	if resp, body = sendRange(t, token, at, file, have, int64(len(file))); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("the rest: %s\n%s", resp.Status, body)
	}
	digest := sha256Of(file)
	if resp, body = send(t, token, http.MethodPut, withDigest(location(t, resp), digest), nil); resp.StatusCode != http.StatusCreated {
		t.Fatalf("PUT: %s\n%s", resp.Status, body)
	}
	if resp, _ = send(t, token, http.MethodHead, "http://"+s.Registry+"/v2/"+name+"/blobs/"+digest,
		nil); resp.StatusCode != http.StatusOK || resp.ContentLength != int64(len(file)) {
		t.Errorf("HEAD: %s, %d bytes", resp.Status, resp.ContentLength)
	}
}
