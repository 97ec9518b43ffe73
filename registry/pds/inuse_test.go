package pds_test

import (
	"slices"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
)

// Sessions that uploads or unsettled pushes act by are in use, until those are over.
func TestSessionsInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	expect := func(name string, want ...string) {
		t.Helper()
		got, err := w.backend.SessionsInUse(t.Context(), w.accounts[name].did)
		must(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("%s uses %q, want %q", name, got, want)
		}
	}
	expect("alice")
	up, err := w.repo("alice", "alice", "app").StartUpload(t.Context(), registry.UploadHint{})
	must(t, err)
	id := up.ID()
	must(t, up.Close())
	expect("alice", "alice")
	expect("bob")
	w.restart()
	expect("alice", "alice")
	up, err = w.repo("alice", "alice", "app").Upload(t.Context(), id)
	must(t, err)
	must(t, up.Cancel(t.Context()))
	must(t, up.Close())
	expect("alice")

	w.holdProxy.Inject(realtest.Fault{Kind: realtest.Fail, Path: "notifyManifest"}) // the push stays to be settled
	w.push("app", newImage(t, "one", nil), "v1")
	w.restart()
	expect("alice", "alice")
	w.clock.advance(3 * time.Minute)
	w.settled()
	expect("alice")
}
