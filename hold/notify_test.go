package hold_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/repo"
)

// pushed starts a hold with a writer and one image that is pushed and not yet told of.
func pushed(t *testing.T, change ...func(*hold.Config)) (h *testHold, alice *user, config, layer digest.Digest) {
	n := newNetwork(t)
	alice = n.user("alice")
	h = newHold(t, n, append(change, func(c *hold.Config) {
		c.Public = true
		c.Crew = append(c.Crew, hold.CrewMember{Member: alice.did, Permissions: []string{"blob:write"}})
	})...)
	return h, alice, h.push(alice, []byte("{}")), h.push(alice, data(1, 1000))
}

func (h *testHold) notify(u *user, operation, repository string, d digest.Digest) (int, map[string]any) {
	return h.call(u, "POST", "io.atcr.hold.notifyManifest", "", map[string]any{
		"operation": operation, "repository": repository, "userDid": u.did, "manifestDigest": d,
		// What a client claims of sizes and layers is not believed.
		"manifest": map[string]any{"layers": []any{map[string]any{"digest": digest.FromString("foreign"), "size": 0, "mediaType": "x/y"}}},
	})
}

func TestNotifyBelievesTheRecord(t *testing.T) {
	h, alice, config, layer := pushed(t)
	good, body := alice.putManifest(t, h, "app", config, layer)
	code, out := h.notify(alice, "push", "app", good)
	if code != 200 || out["layersCreated"] != 2.0 {
		t.Fatalf("push: %d %v", code, out)
	}
	for _, l := range h.layers() {
		if want := map[string]int64{config.String(): 2, layer.String(): 1000}[l.Digest]; l.Size != want || l.UserDID != alice.did ||
			l.Manifest != "at://"+alice.did+"/io.atcr.manifest/"+good.Encoded() {
			t.Errorf("layer record: %+v", l)
		}
	}
	missing, _ := alice.putManifest(t, h, "app", config, digest.FromString("nowhere"))
	other := digest.FromString("other hold")
	alice.putRecord(t, "app", other, body, "did:web:other.test")
	lie := digest.FromString("lie")
	alice.putRecord(t, "app", lie, body, h.DID())
	html := []byte("<html>")
	page := digest.FromBytes(html)
	alice.putRecord(t, "app", page, html, h.DID())
	for _, tt := range []struct {
		name, operation, repository string
		d                           digest.Digest
		code                        int
		want                        string
	}{
		{"a layer the hold lacks", "push", "app", missing, 400, "ManifestBlobUnknown"},
		{"a record that names another hold", "push", "app", other, 403, "ManifestNamesOtherHold"},
		{"a record whose blob is another manifest", "push", "app", lie, 400, "InvalidManifest"},
		{"a manifest that is none", "push", "app", page, 400, "InvalidManifest"},
		{"no record", "push", "app", digest.FromString("none"), 400, "ManifestRecordNotFound"},
		{"the record of another repository", "push", "other", good, 400, "ManifestRecordNotFound"},
		{"a repository with ..", "push", "../app", good, 400, "InvalidRequest"},
		{"a digest that is none", "push", "app", "sha256:zz", 400, "InvalidDigest"},
		{"an unknown operation", "shove", "app", good, 400, "InvalidOperation"},
		{"a delete while the record stands", "delete", "app", good, 400, "ManifestRecordExists"},
	} {
		code, out := h.notify(alice, tt.operation, tt.repository, tt.d)
		if code != tt.code || out["error"] != tt.want {
			t.Errorf("%s: %d %v, want %d %s", tt.name, code, out, tt.code, tt.want)
		}
	}
	if got := h.layers(); len(got) != 2 {
		t.Errorf("layer records: %+v", got)
	}
	code, out = h.call(h.owner, "POST", "io.atcr.hold.notifyManifest", "", map[string]any{
		"operation": "push", "repository": "app", "userDid": alice.did, "manifestDigest": good,
	})
	if code != 403 || out["error"] != "UserMismatch" {
		t.Errorf("another's userDid, by the captain: %d %v", code, out)
	}
	var answer struct{ Layers []atcr.Layer }
	h.getJSON("/xrpc/io.atcr.hold.getLayersForManifest?manifest=at://"+alice.did+"/io.atcr.manifest/"+good.Encoded(), &answer)
	if len(answer.Layers) != 2 {
		t.Errorf("getLayersForManifest: %+v", answer)
	}
}

// One manifest told of by many at once: each layer is recorded once.
func TestNotifyAtOnce(t *testing.T) {
	h, alice, config, layer := pushed(t)
	d, _ := alice.putManifest(t, h, "app", config, layer)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			_, err := h.client(alice).NotifyManifest(t.Context(),
				holdclient.Notice{Operation: holdclient.Push, Repository: "app", UserDID: alice.did, Digest: d})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := h.layers(); len(got) != 2 {
		t.Errorf("%d layer records, want 2", len(got))
	}
	st := h.stats(alice.did, "app")
	if st.PushCount != 1 {
		t.Errorf("stats: %+v", st)
	}
}

func (h *testHold) stats(owner, repository string) atcr.Stats {
	h.t.Helper()
	var rec struct{ Value atcr.Stats }
	h.getJSON(fmt.Sprintf("/xrpc/com.atproto.repo.getRecord?repo=%s&collection=%s&rkey=%s", h.DID(), atcr.NSIDStats,
		atcr.StatsRKey(owner, repository)), &rec)
	return rec.Value
}

// The same manifest in two repositories is recorded for each, and a delete in one leaves the other alone.
func TestManifestInTwoRepositories(t *testing.T) {
	h, alice, config, layer := pushed(t)
	d, body := alice.putManifest(t, h, "app", config, layer)
	value, err := repo.RecordFrom(map[string]any{
		"$type": atcr.NSIDManifest, "repository": "team/app", "digest": d.String(), "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"schemaVersion": 2, "holdDid": h.DID(), "createdAt": "2026-01-01T00:00:00.000Z",
		"manifestBlob": map[string]any{"$type": "blob", "ref": map[string]string{"$link": repo.BlobCID(body).String()},
			"mimeType": "application/json", "size": len(body)},
	})
	must(t, err)
	second := atcr.ManifestRKeyIn("team/app", d)
	_, err = alice.repo.Apply(t.Context(), []repo.Write{{Action: repo.Create, Collection: atcr.NSIDManifest, RKey: second, Record: value}})
	must(t, err)
	for _, repository := range []string{"app", "team/app"} {
		if code, out := h.notify(alice, "push", repository, d); code != 200 || out["layersCreated"] != 2.0 {
			t.Fatalf("push %s: %d %v", repository, code, out)
		}
	}
	q, err := h.client(alice).GetQuota(t.Context(), alice.did)
	if err != nil || q.UniqueBlobs != 2 || q.TotalSize != 1002 {
		t.Errorf("quota counts each digest once: %+v, %v", q, err)
	}
	alice.deleteManifest(t, d)
	if code, out := h.notify(alice, "delete", "app", d); code != 200 || out["layersDeleted"] != 2.0 {
		t.Fatalf("delete: %d %v", code, out)
	}
	left := h.layers()
	if len(left) != 2 || !strings.HasSuffix(left[0].Manifest, second) {
		t.Errorf("left: %+v", left)
	}
}

// A PDS that is down says nothing about its records: no delete, no push, and 503 with Retry-After.
func TestNotifyWhilePDSIsDown(t *testing.T) {
	h, alice, config, layer := pushed(t)
	d, _ := alice.putManifest(t, h, "app", config, layer)
	if code, _ := h.notify(alice, "push", "app", d); code != 200 {
		t.Fatal(code)
	}
	alice.deleteManifest(t, d)
	alice.down.Store(true)
	for _, op := range []string{"push", "delete"} {
		if code, out := h.notify(alice, op, "app", d); code != 503 || out["error"] != "PDSUnavailable" {
			t.Errorf("%s: %d %v", op, code, out)
		}
	}
	if len(h.layers()) != 2 {
		t.Error("layer records went")
	}
	alice.down.Store(false)
	if code, _ := h.notify(alice, "delete", "app", d); code != 200 || len(h.layers()) != 0 {
		t.Errorf("after the PDS came back: %d", code)
	}
}

// hostilePDS answers getRecord and getBlob with what it likes.
func TestHostilePDS(t *testing.T) {
	h, alice, config, layer := pushed(t)
	d, body := alice.putManifest(t, h, "app", config, layer)
	good := func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.Get(alice.pds + r.URL.RequestURI())
		if err != nil {
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}
	var endless http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) {
		chunk := bytes.Repeat([]byte("x"), 1<<20)
		for range 1024 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
	for _, tt := range []struct {
		name   string
		method string // what is answered badly
		answer http.HandlerFunc
		code   int
	}{
		{"a gigabyte of record", "com.atproto.repo.getRecord", endless, 503},
		{"a gigabyte of manifest", "com.atproto.sync.getBlob", endless, 503},
		{"another blob", "com.atproto.sync.getBlob", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(append(body, ' ')) }, 400},
		{"a redirect inwards", "com.atproto.sync.getBlob", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusFound)
		}, 503},
		{"no JSON", "com.atproto.repo.getRecord", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, 400},
		{"a bare 404", "com.atproto.repo.getRecord", http.NotFound, 503},
		{"a record of another type", "com.atproto.repo.getRecord", func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]any{"uri": "x", "value": []int{1}})
		}, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, tt.method) {
					tt.answer(w, r)
					return
				}
				good(w, r)
			}))
			defer srv.Close()
			pub, err := alice.key.PublicKey()
			must(t, err)
			insert(h.net.dir, childUser{alice.did, pub.Multibase(), srv.URL})
			if code, out := h.notify(alice, "push", "app", d); code != tt.code {
				t.Errorf("%d %v, want %d", code, out, tt.code)
			}
			if len(h.layers()) != 0 {
				t.Error("layers were recorded")
			}
		})
	}
}

// A manifest that was acknowledged is taken note of, however often it names a layer.
func TestNotifyOfARepeatedLayer(t *testing.T) {
	h, alice, config, layer := pushed(t)
	layers := make([]digest.Digest, 10_500)
	for i := range layers {
		layers[i] = layer
	}
	d, _ := alice.putManifest(t, h, "app", config, layers...)
	if code, out := h.notify(alice, "push", "app", d); code != 200 || out["layersCreated"] != 2.0 {
		t.Errorf("%d %v", code, out)
	}
}

// However a digest is leased, by its upload, by a check or by checks of several repositories, it counts once.
func TestLeasesCountOnce(t *testing.T) {
	h, alice, config, layer := pushed(t)
	many := make([]digest.Digest, 0, 9_998) // and the two of the push
	for i := range cap(many) {
		many = append(many, digest.FromString(fmt.Sprint(i)))
	}
	must(t, h.LeaseForTest(alice.did, many))
	for _, repository := range []string{"app", "new", "other"} {
		code, out := h.call(alice, "POST", "io.atcr.hold.checkBlobs", "", map[string]any{
			"repository": repository, "digests": []digest.Digest{config, layer},
		})
		if code != 200 || len(out["present"].([]any)) != 2 {
			t.Errorf("%s: %d %v", repository, code, out)
		}
	}
}

func TestUserData(t *testing.T) {
	h, alice, config, layer := pushed(t)
	d, _ := alice.putManifest(t, h, "app", config, layer)
	if code, _ := h.notify(alice, "push", "app", d); code != 200 {
		t.Fatal(code)
	}
	code, out := h.call(alice, "GET", "io.atcr.hold.exportUserData", "", nil)
	if code != 200 || len(out["layerRecords"].([]any)) != 2 || len(out["statsRecords"].([]any)) != 1 || out["crewRecord"] == nil ||
		out["isCaptain"] != false {
		t.Errorf("export: %d %v", code, out)
	}
	code, out = h.call(alice, "POST", "io.atcr.hold.deleteUserData", "", map[string]any{})
	if code != 200 || out["layersDeleted"] != 2.0 || out["statsDeleted"] != 1.0 || out["crewDeleted"] != true {
		t.Errorf("delete: %d %v", code, out)
	}
	if code, _ := h.call(alice, "POST", "io.atcr.hold.initiateUpload", "", map[string]any{}); code != 403 {
		t.Errorf("after that alice still writes: %d", code)
	}
	if code, out = h.call(h.owner, "POST", "io.atcr.hold.deleteUserData", "", map[string]any{}); code != 200 || out["crewDeleted"] != false {
		t.Errorf("the captain: %d %v", code, out)
	}
}
