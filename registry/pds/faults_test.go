package pds_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
)

// steps are the calls of a push, and at which server.
var steps = []struct {
	server, method string
}{
	{"pds", "com.atproto.sync.getLatestCommit"},
	{"pds", "com.atproto.repo.listRecords"},
	{"pds", "com.atproto.server.getServiceAuth"},
	{"pds", "com.atproto.repo.uploadBlob"},
	{"pds", "com.atproto.repo.applyWrites"},
	{"pds", "com.atproto.repo.getRecord"},
	{"hold", "com.atproto.repo.getRecord"},
	{"hold", "io.atcr.hold.initiateUpload"},
	{"hold", "io.atcr.hold.uploadPart"},
	{"hold", "io.atcr.hold.completeUpload"},
	{"hold", "io.atcr.hold.checkBlobs"},
	{"hold", "io.atcr.hold.getQuota"},
	{"hold", "io.atcr.hold.notifyManifest"},
}

var kinds = []struct {
	name string
	kind realtest.FaultKind
}{
	{"failed", realtest.Fail},
	{"failed but done", realtest.FailDone},
	{"dropped", realtest.Drop},
	{"dropped but done", realtest.DropDone},
}

// signed picks the requests with a token where a hold is first asked without one.
func signed(server, method string) func(*http.Request) bool {
	if server == "pds" || method == "io.atcr.hold.uploadPart" || method == "com.atproto.repo.getRecord" {
		return nil
	}
	return func(r *http.Request) bool { return r.Header.Get("Authorization") != "" }
}

// TestEachStepFails fails every step of a push, before and after the server did it. The client sees success or a 5xx, 4xx never;
// nothing half done shows; after a restart its retry succeeds, and the hold knows every layer once.
func TestEachStepFails(t *testing.T) {
	t.Parallel()
	testEachStepFails(t, devnetPDS)
}

func testEachStepFails(t *testing.T, start func(*world)) {
	w := newWorld(t, start)
	w.push("warm", newImage(t, "warm", nil), "v1")
	w.settled()
	for i, step := range steps {
		for j, k := range kinds {
			// The short lane takes each step once before and once after it was done, by turns as an error and as silence.
			if os.Getenv("ATCR_LONG") == "" && i%2 != j/2 {
				continue
			}
			t.Run(step.server+"/"+step.method+"/"+k.name, func(t *testing.T) {
				defer w.in(t)()
				w.restart()                      // what was learned would spare calls
				w.clock.advance(2 * time.Minute) // and so would what is fresh
				w.write("alice", "com.atproto.repo.putRecord", map[string]any{
					"repo": w.accounts["alice"].did, "collection": "app.example.note", "rkey": "self", "record": map[string]any{"$type": "app.example.note", "n": i*10 + j},
				})
				proxy := w.pdsProxy
				if step.server == "hold" {
					proxy = w.holdProxy
				}
				fault := proxy.Inject(realtest.Fault{Kind: k.kind, Path: "/xrpc/" + step.method, Match: signed(step.server, step.method)})
				name := fmt.Sprintf("app%d", i)
				img := newImage(t, fmt.Sprint(i, " ", j), nil)
				tag := fmt.Sprintf("v%d", j)
				err := push(t.Context(), w.repo("alice", "alice", name), img, tag, "latest")
				if err == nil {
					must(t, realtest.WaitFor(time.Minute, func() error { // the tail of the push may be what meets it
						if fault.Fired() == 0 {
							return errors.New("not yet")
						}
						return nil
					}))
				}
				if fault.Fired() == 0 {
					t.Fatalf("the fault never fired; the push: %v", err)
				}
				var e *registry.Error
				if err != nil && (!errors.As(err, &e) || e.Status < 500) {
					t.Errorf("the client is told %v", err)
				}
				t.Logf("the client is told: %v", err)
				anon := w.repo("", "alice", name)
				if m, merr := anon.Manifest(t.Context(), registry.Ref{Tag: tag}); merr == nil && !bytes.Equal(m.Bytes, img.manifest.Bytes) {
					t.Error("the tag shows another manifest")
				} else if err == nil && merr != nil {
					t.Errorf("the push was acknowledged, but: %v", merr)
				}
				w.restart()
				w.clock.advance(3 * time.Minute)
				w.settled()
				if err != nil {
					must(t, push(t.Context(), w.repo("alice", "alice", name), img, tag, "latest"))
				}
				w.clock.advance(2 * time.Minute)
				w.settled()
				w.check("alice", name)
			})
		}
	}
}

// TestCrashes stops a push at each crash point, as a crash would, and starts anew on the same database.
func TestCrashes(t *testing.T) {
	t.Parallel()
	testCrashes(t, devnetPDS)
}

func testCrashes(t *testing.T, start func(*world)) {
	var at string
	fired := 0
	w := newWorld(t, start, func(w *world) {
		w.crash = func(point string) error {
			if point != at {
				return nil
			}
			at = "" // once
			fired++
			return errors.New("crash")
		}
	})
	for i, point := range crashpoint.OfPDS() {
		t.Run(point, func(t *testing.T) {
			defer w.in(t)()
			w.settled()
			name := fmt.Sprintf("app%d", i)
			img := newImage(t, point, nil)
			before := fired
			at = point
			err := push(t.Context(), w.repo("alice", "alice", name), img, "v1")
			w.stop() // waits for the tail
			if fired != before+1 {
				t.Fatalf("the crash point was not reached; the push: %v", err)
			}
			w.start()
			if point == crashpoint.IntentWritten || point == crashpoint.BlobUploaded {
				if open, err := w.backend.Unsettled(t.Context(), ""); err != nil || len(open) != 1 {
					t.Fatalf("open intents: %v %v", open, err)
				}
				w.clock.advance(3 * time.Minute)
			}
			w.clock.advance(2 * time.Second)
			w.settled()
			w.check("alice", name)
			m, merr := w.repo("", "alice", name).Manifest(t.Context(), registry.Ref{Tag: "v1"})
			switch point {
			case crashpoint.RecordCommitted, crashpoint.CopyUpdated, crashpoint.HoldTold:
				if merr != nil || !bytes.Equal(m.Bytes, img.manifest.Bytes) {
					t.Errorf("what was committed does not show: %v", merr)
				}
			default:
				wantKind(t, merr, registry.ErrNameUnknown)
			}
			must(t, push(t.Context(), w.repo("alice", "alice", name), img, "v1"))
			w.settled()
			w.check("alice", name)
		})
	}
}

// TestDeleteFails fails the calls of a delete.
func TestDeleteFails(t *testing.T) {
	t.Parallel()
	testDeleteFails(t, devnetPDS)
}

func testDeleteFails(t *testing.T, start func(*world)) {
	w := newWorld(t, start)
	for i, step := range []struct{ server, method string }{
		{"pds", "com.atproto.repo.applyWrites"}, {"pds", "com.atproto.sync.getLatestCommit"}, {"pds",
			"com.atproto.repo.getRecord"}, {"hold", "io.atcr.hold.notifyManifest"},
	} {
		for j, k := range kinds {
			t.Run(step.method+"/"+k.name, func(t *testing.T) {
				defer w.in(t)()
				name := fmt.Sprintf("app%d.%d", i, j)
				img := newImage(t, name, nil)
				w.push(name, img, "v1", "v2")
				w.settled()
				w.restart()
				w.clock.advance(2 * time.Minute)
				proxy := w.pdsProxy
				if step.server == "hold" {
					proxy = w.holdProxy
				}
				fault := proxy.Inject(realtest.Fault{Kind: k.kind, Path: "/xrpc/" + step.method, Match: signed(step.server, step.method)})
				r := w.repo("alice", "alice", name)
				err := r.DeleteManifest(t.Context(), img.manifest.Digest)
				var e *registry.Error
				if err != nil && (!errors.As(err, &e) || e.Status < 500) {
					t.Errorf("the client is told %v", err)
				}
				if err == nil {
					_, merr := w.repo("", "alice", name).Manifest(t.Context(), registry.Ref{Tag: "v1"})
					wantKind(t, merr, registry.ErrNameUnknown)
				}
				must(t, realtest.WaitFor(time.Minute, func() error {
					if fault.Fired() == 0 {
						return errors.New("the fault never fired")
					}
					return nil
				}))
				w.restart()
				w.clock.advance(3 * time.Minute)
				w.settled()
				if err != nil {
					if err := w.repo("alice", "alice", name).DeleteManifest(t.Context(), img.manifest.Digest); err != nil &&
						!errors.Is(err, registry.ErrNameUnknown) {
						t.Error(err)
					}
				}
				w.settled()
				w.check("alice", name)
				if tags, err := collectTags(t.Context(), w.repo("", "alice", name)); !errors.Is(err, registry.ErrNameUnknown) {
					t.Errorf("tags are left: %v %v", tags, err)
				}
			})
		}
	}
}

// TestTooManyRequests passes a PDS's 429 on with its Retry-After.
func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	testTooManyRequests(t, devnetPDS)
}

func testTooManyRequests(t *testing.T, start func(*world)) {
	w := newWorld(t, start)
	img := newImage(t, "one", nil)
	for _, method := range []string{"uploadBlob", "applyWrites"} {
		fault := w.pdsProxy.Inject(realtest.Fault{Kind: realtest.Fail, Status: http.StatusTooManyRequests, RetryAfter: 17 * time.Second,
			Path: "com.atproto.repo." + method})
		err := push(t.Context(), w.repo("alice", "alice", "app"), img, "v1")
		if e := wantKind(t, err, registry.ErrTooManyRequests); e.RetryAfter != 17*time.Second {
			t.Errorf("Retry-After %v", e.RetryAfter)
		}
		if fault.Fired() != 1 {
			t.Errorf("fired %d times", fault.Fired())
		}
		if open, err := w.backend.Unsettled(t.Context(), ""); err != nil || len(open) != 0 {
			t.Errorf("intents are left: %v %v", open, err)
		}
	}
}
