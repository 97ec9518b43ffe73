package pds_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
)

// asAlice lets everyone do everything in her name.
type asAlice struct{ w *world }

func (a asAlice) Authorize(*http.Request, []registry.Access) (registry.Actor, error) {
	return a.w.actor("alice"), nil
}

// TestConformance runs the OCI conformance suite on the handler over this backend.
func TestConformance(t *testing.T) {
	t.Parallel()
	realtest.Long(t, "the OCI conformance suite over this backend")
	w := newWorld(t, devnetPDS)
	srv := httptest.NewServer(registry.NewHandler(w.backend, &registry.Options{Authorizer: asAlice{w}, Log: quiet()}))
	defer srv.Close()
	got := realtest.Conformance(t, realtest.ConformanceOptions{
		Login:       realtest.Login{Registry: srv.Listener.Addr().String(), User: "alice", Password: "x"},
		Repository1: w.accounts["alice"].handle + "/one", Repository2: w.accounts["alice"].handle + "/two",
		Set: map[string]string{"API_BLOBS_DELETE": "false"},
	})
	t.Log(got)
	for _, f := range got.Failures {
		t.Error(f)
	}
	w.clock.advance(3 * time.Minute) // a push whose manifest was deleted before the hold was told waits for a commit on its way
	w.settled()
}
