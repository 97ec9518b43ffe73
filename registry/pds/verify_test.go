package pds_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
)

const proofPath = "/xrpc/com.atproto.sync.getRecord"

func verifying(v pds.Verify) func(*world) {
	return func(w *world) { w.options = func(o *pds.Options) { o.Verify = v } }
}

// forget ends the backend and drops its copy, so that the records are listed and proved anew.
func (w *world) forget() {
	w.t.Helper()
	w.stop()
	for _, table := range []string{"pds_owner", "pds_manifest", "pds_tag", "pds_layer"} {
		_, err := w.table().Exec(`delete from ` + table)
		must(w.t, err)
	}
	w.start()
}

func (w *world) proofsAsked() (n int) {
	for _, r := range w.pdsProxy.Requests() {
		if strings.Contains(r, proofPath) {
			n++
		}
	}
	return n
}

func pull(w *world, tag string) ([]byte, error) {
	m, err := w.repo("", "alice", "app").Manifest(w.t.Context(), registry.Ref{Tag: tag})
	return m.Bytes, err
}

// A record is proved once, also over restarts, and again when it changes.
func TestProofs(t *testing.T) {
	t.Parallel()
	testProofs(t, devnetPDS)
}

func testProofs(t *testing.T, start func(*world)) {
	w := newWorld(t, start, verifying(pds.VerifyAlways))
	one, two := newImage(t, "one", nil), newImage(t, "two", nil)
	w.push("app", one, "v1")
	w.settled()
	w.pdsProxy.Requests()
	for i, want := range []int{2, 0, 0, 0} {
		switch i {
		case 2:
			w.restart()
		case 3: // listed anew, the same as before
			w.clock.advance(2 * time.Minute)
			w.write("alice", "com.atproto.repo.putRecord", map[string]any{
				"repo": w.accounts["alice"].did, "collection": "app.example.note", "rkey": "self", "record": map[string]any{"$type": "app.example.note"},
			})
		}
		got, err := pull(w, "v1")
		if err != nil || !bytes.Equal(got, one.manifest.Bytes) {
			t.Fatalf("pull %d: %v", i, err)
		}
		if n := w.proofsAsked(); n != want {
			t.Errorf("pull %d: %d proofs, want %d", i, n, want)
		}
	}
	w.push("app", two, "v1")
	w.settled()
	w.pdsProxy.Requests()
	if got, err := pull(w, "v1"); err != nil || !bytes.Equal(got, two.manifest.Bytes) {
		t.Fatalf("the second: %v", err)
	}
	if n := w.proofsAsked(); n != 2 {
		t.Errorf("%d proofs of a tag that moved and a new manifest", n)
	}
	if w.backend.Disproved() != 0 {
		t.Errorf("%d disproved", w.backend.Disproved())
	}
}

// The copy is a minute old when the owner moves the tag by another way: the proof tells, and the new one is served.
func TestProofNewerThanCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS, verifying(pds.VerifyAlways))
	one, two := newImage(t, "one", nil), newImage(t, "two", nil)
	w.push("app", one, "v1")
	w.push("app", two, "v2")
	w.settled()
	var moved, other anyRecord
	for _, r := range w.records("alice", "io.atcr.tag") {
		if r.Value["tag"] == "v1" {
			moved = r
		} else {
			other = r
		}
	}
	moved.Value["manifest"] = other.Value["manifest"]
	w.write("alice", "com.atproto.repo.putRecord", map[string]any{
		"repo": w.accounts["alice"].did, "collection": "io.atcr.tag", "rkey": moved.URI[strings.LastIndexByte(moved.URI,
			'/')+1:], "record": moved.Value,
	})
	if got, err := pull(w, "v1"); err != nil || !bytes.Equal(got, two.manifest.Bytes) {
		t.Errorf("%s, %v", got, err)
	}
	if w.backend.Disproved() != 0 {
		t.Errorf("%d disproved", w.backend.Disproved())
	}
}

// foreignProof is a proof of the same record path in a repository of one's own making.
func foreignProof(t *testing.T, did, collection, rkey string, value []byte) []byte {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	must(t, err)
	r, err := repo.Open(t.Context(), memstore.New(), repo.Options{DID: did, Key: key})
	must(t, err)
	defer r.Close()
	_, err = r.Apply(t.Context(), []repo.Write{{Action: repo.Put, Collection: collection, RKey: rkey, Record: value}})
	must(t, err)
	var car bytes.Buffer
	must(t, r.Prove(t.Context(), &car, collection, rkey))
	return car.Bytes()
}

// TestLyingPDS: answers of the owner's PDS are changed on their way; none is served, under always as under sampled.
func TestLyingPDS(t *testing.T) {
	t.Parallel()
	testLyingPDS(t, devnetPDS)
}

func testLyingPDS(t *testing.T, start func(*world)) { lies(t, start, pds.VerifyAlways) }

func TestLyingPDSUnderSampled(t *testing.T) {
	t.Parallel()
	lies(t, devnetPDS, pds.VerifySampled)
}

func lies(t *testing.T, start func(*world), mode pds.Verify) {
	w := newWorld(t, start, verifying(mode))
	one, two := newImage(t, "one", nil), newImage(t, "two", nil)
	w.push("app", one, "v1")
	w.push("app", two, "v2")
	w.settled()
	did := w.accounts["alice"].did
	var tag, other anyRecord
	for _, r := range w.records("alice", "io.atcr.tag") {
		if r.Value["tag"] == "v1" {
			tag = r
		} else {
			other = r
		}
	}
	rkey := tag.URI[strings.LastIndexByte(tag.URI, '/')+1:]
	raw, err := json.Marshal(tag.Value)
	must(t, err)
	value, err := repo.RecordFromJSON(raw)
	must(t, err)
	oldManifest, newManifest := fmt.Sprint(tag.Value["manifest"]), fmt.Sprint(other.Value["manifest"])
	ofTags := func(r *http.Request) bool { return r.URL.Query().Get("collection") == "io.atcr.tag" }
	lists := func(from, to string) realtest.Fault {
		return realtest.Fault{Kind: realtest.Rewrite, Path: "listRecords", Match: ofTags, Times: -1, Rewrite: func(b []byte) []byte {
			return bytes.Replace(b, []byte(from), []byte(to), 1)
		}}
	}
	proves := func(car []byte) realtest.Fault {
		return realtest.Fault{Kind: realtest.Rewrite, Path: proofPath, Match: ofTags, Times: -1, Rewrite: func([]byte) []byte { return car }}
	}
	for name, fault := range map[string]realtest.Fault{
		"a tag that points elsewhere, under its true CID": lists(oldManifest, newManifest),
		"a tag with another CID":                          lists(tag.CID, other.CID),
		"a proof by another key":                          proves(foreignProof(t, did, "io.atcr.tag", rkey, value)),
		"a proof of another account":                      proves(foreignProof(t, w.accounts["bob"].did, "io.atcr.tag", rkey, value)),
		"no CAR at all":                                   proves([]byte("<html>")),
		"an empty answer":                                 proves(nil),
		"a tag that is not in the repository": {Kind: realtest.Rewrite, Path: "listRecords", Match: ofTags, Times: -1,
			Rewrite: func(b []byte) []byte {
				b = bytes.ReplaceAll(b, []byte(rkey), []byte("app_v9"))
				return bytes.ReplaceAll(b, []byte(`"tag":"v1"`), []byte(`"tag":"v9"`))
			}},
	} {
		t.Run(string(mode)+"/"+name, func(t *testing.T) {
			defer w.in(t)()
			w.forget()
			w.clock.advance(2 * time.Hour)
			injected := w.pdsProxy.Inject(fault)
			asked := "v1"
			if strings.HasPrefix(name, "a tag that is not") {
				asked = "v9"
			}
			for range 3 {
				if got, err := pull(w, asked); !errors.Is(err, registry.ErrManifestUnknown) {
					t.Errorf("answered %q, %v", got, err)
				}
			}
			if injected.Fired() == 0 {
				t.Error("nothing was changed")
			}
			if n := w.backend.Disproved(); n != 1 {
				t.Errorf("counted %d times", n)
			}
			w.pdsProxy.Clear()
			w.forget()
			if got, err := pull(w, "v1"); err != nil || !bytes.Equal(got, one.manifest.Bytes) {
				t.Errorf("the truth is answered by %q, %v", got, err)
			}
		})
	}
}

// A PDS answers with a true proof, but only after it has listed the record anew with other fields, under the same CID or none: what the
// copy holds then was not proved.
func TestListedAnewWhileProved(t *testing.T) {
	t.Parallel()
	for _, cid := range []string{"the same CID", "no CID"} {
		t.Run(cid, func(t *testing.T) { listedAnew(t, cid == "no CID") })
	}
}

func listedAnew(t *testing.T, noCID bool) {
	w := newWorld(t, devnetPDS, verifying(pds.VerifyAlways))
	one, two := newImage(t, "one", nil), newImage(t, "two", nil)
	w.push("app", one, "v1")
	w.push("app", two, "v2")
	w.settled()
	byTag, cids := map[string]string{}, []string(nil)
	for _, r := range w.records("alice", "io.atcr.tag") {
		byTag[fmt.Sprint(r.Value["tag"])] = fmt.Sprint(r.Value["manifest"])
		cids = append(cids, r.CID)
	}
	ofTags := func(r *http.Request) bool { return r.URL.Query().Get("collection") == "io.atcr.tag" }
	var anew atomic.Bool
	lists := w.pdsProxy.Inject(realtest.Fault{Kind: realtest.Rewrite, Path: "listRecords", Match: ofTags, Times: -1,
		Rewrite: func(b []byte) []byte {
			for _, c := range cids {
				if noCID {
					b = bytes.ReplaceAll(b, []byte(c), nil)
				}
			}
			if anew.Load() {
				b = bytes.ReplaceAll(b, []byte(byTag["v1"]), []byte(byTag["v2"]))
			}
			return b
		}})
	proof := w.pdsProxy.Inject(realtest.Fault{Kind: realtest.Rewrite, Path: proofPath, Match: ofTags, Rewrite: func(car []byte) []byte {
		anew.Store(true)
		w.write("alice", "com.atproto.repo.putRecord", map[string]any{
			"repo": w.accounts["alice"].did, "collection": "app.example.note", "rkey": "self", "record": map[string]any{"$type": "app.example.note"},
		})
		w.clock.advance(2 * time.Minute)
		if _, err := pull(w, "v9"); !errors.Is(err, registry.ErrManifestUnknown) {
			t.Errorf("listing anew: %v", err)
		}
		return car
	}})
	w.forget()
	if got, err := pull(w, "v1"); err == nil && !bytes.Equal(got, one.manifest.Bytes) {
		t.Errorf("the first pull got %q", got)
	}
	if got, err := pull(w, "v1"); !errors.Is(err, registry.ErrManifestUnknown) {
		t.Errorf("a tag that was not proved: %q, %v", got, err)
	}
	if proof.Fired() != 1 || lists.Fired() < 2 {
		t.Errorf("fired %d and %d times", proof.Fired(), lists.Fired())
	}
}

// What can't be proved: refused under always, let pass under sampled. What was proved before still pulls while the PDS is silent.
func TestNoProofs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault  realtest.Fault
		always error
	}{
		"not implemented": {realtest.Fault{Kind: realtest.Fail, Path: proofPath, Times: -1, Status: http.StatusNotImplemented,
			Body: `{"error":"MethodNotImplemented","message":"no"}`}, registry.ErrDenied},
		"not found": {realtest.Fault{Kind: realtest.Fail, Path: proofPath, Times: -1, Status: http.StatusNotFound,
			Body: "nothing here"}, registry.ErrDenied},
		"failing": {realtest.Fault{Kind: realtest.Fail, Path: proofPath, Times: -1}, registry.ErrUnavailable},
		"slowed down": {realtest.Fault{Kind: realtest.Fail, Path: proofPath, Times: -1, Status: http.StatusTooManyRequests},
			registry.ErrTooManyRequests},
		"dropped": {realtest.Fault{Kind: realtest.Drop, Path: proofPath, Times: -1}, registry.ErrUnavailable},
	} {
		for _, mode := range []pds.Verify{pds.VerifyAlways, pds.VerifySampled} {
			t.Run(string(mode)+"/"+name, func(t *testing.T) {
				w := newWorld(t, devnetPDS, verifying(mode))
				w.push("app", newImage(t, "one", nil), "v1")
				w.push("app", newImage(t, "two", nil), "v2")
				w.settled()
				if _, err := pull(w, "v1"); err != nil {
					t.Fatal(err)
				}
				w.clock.advance(2 * time.Second)
				fault := w.pdsProxy.Inject(c.fault)
				_, err := pull(w, "v2")
				if mode == pds.VerifyAlways && !errors.Is(err, c.always) || mode == pds.VerifySampled && err != nil {
					t.Errorf("what was never proved: %v", err)
				}
				if _, err := pull(w, "v1"); err != nil {
					t.Errorf("what was proved before: %v", err)
				}
				if fault.Fired() == 0 || w.backend.Disproved() != 0 {
					t.Errorf("fired %d times, %d disproved", fault.Fired(), w.backend.Disproved())
				}
			})
		}
	}
}

// Anonymous pulls don't become questions to a PDS that can't answer.
func TestNoProofsAskedSeldom(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]realtest.Fault{
		"not implemented": {Kind: realtest.Fail, Path: proofPath, Times: -1, Status: http.StatusNotImplemented,
			Body: `{"error":"MethodNotImplemented","message":"no"}`},
		"failing": {Kind: realtest.Fail, Path: proofPath, Times: -1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, devnetPDS, verifying(pds.VerifyAlways), func(w *world) { w.clock.freeze() })
			w.push("app", newImage(t, "one", nil), "v1")
			w.push("app", newImage(t, "two", nil), "v2")
			w.settled()
			fault := w.pdsProxy.Inject(fault)
			for range 10 {
				for _, tag := range []string{"v1", "v2"} {
					if _, err := pull(w, tag); err == nil {
						t.Error("it was not proved")
					}
				}
			}
			if fault.Fired() != 1 {
				t.Errorf("asked %d times in one moment", fault.Fired())
			}
			w.pdsProxy.Clear()
			w.clock.advance(6 * time.Second)
			if _, err := pull(w, "v1"); err != nil {
				t.Error(err)
			}
		})
	}
}

// While the whole PDS is silent the copy answers, with a warning; under always only what was proved.
func TestSilentPDSUnderAlways(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS, verifying(pds.VerifyAlways))
	w.push("app", newImage(t, "one", nil), "v1")
	w.push("app", newImage(t, "two", nil), "v2")
	w.settled()
	if _, err := pull(w, "v1"); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(2 * time.Minute)
	fault := w.pdsProxy.Inject(realtest.Fault{Kind: realtest.Drop, Times: -1})
	m, err := w.repo("", "alice", "app").Manifest(t.Context(), registry.Ref{Tag: "v1"})
	if err != nil || m.Warning == "" {
		t.Errorf("proved before: %v, warning %q", err, m.Warning)
	}
	if _, err := pull(w, "v2"); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("never proved: %v", err)
	}
	if fault.Fired() == 0 {
		t.Error("the PDS was not asked")
	}
}

// Sampled asks at one pull a second of an owner, never at none.
func TestVerifyRates(t *testing.T) {
	t.Parallel()
	for mode, want := range map[pds.Verify]int{pds.VerifySampled: 2, pds.VerifyNever: 0, pds.VerifyAlways: 10} {
		w := newWorld(t, devnetPDS, verifying(mode), func(w *world) { w.clock.freeze() })
		for i := range 5 {
			w.push("app", newImage(t, fmt.Sprint(i), nil), fmt.Sprint("v", i))
		}
		w.settled()
		w.pdsProxy.Requests()
		for i := range 5 {
			if _, err := pull(w, fmt.Sprint("v", i)); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.proofsAsked(); n != want {
			t.Errorf("%s: %d proofs for 5 pulls in one moment, want %d", mode, n, want)
		}
		w.clock.advance(time.Second)
		if _, err := pull(w, "v4"); err != nil {
			t.Fatal(err)
		}
		if n := w.proofsAsked(); mode == pds.VerifySampled && n != 2 {
			t.Errorf("%d proofs a second later, want 2", n)
		}
	}
	if _, err := pds.New(t.Context(), pds.Options{DB: nil, Verify: "often"}); err == nil {
		t.Error("a mode that there isn't")
	}
}
