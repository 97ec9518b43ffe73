package pds_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/serviceauth"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/upstreamhold"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
)

const notifyMethod = "io.atcr.hold.notifyManifest"

// ownTokens is a registry's own identity, whose document is served while the test runs.
func ownTokens(t *testing.T) holdclient.TokenFunc {
	t.Helper()
	var h atomic.Pointer[http.Handler]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*h.Load()).ServeHTTP(w, r) }))
	t.Cleanup(srv.Close)
	id, err := identity.LoadOrCreateDID(t.Context(), identity.Config{Dir: t.TempDir(), PublicURL: srv.URL, KeyType: "p256",
		TestMode: true, Log: quiet()})
	must(t, err)
	served := identity.WellKnown(id)
	h.Store(&served)
	return func(_ context.Context, aud, lxm string) (string, error) {
		return serviceauth.Mint(id.Key, serviceauth.MintOptions{Issuer: id.DID, Audience: aud, Method: lxm})
	}
}

// pull gets a manifest as the registry's handler does when a client asks for it.
func (w *world) pull(as, name, tag string) {
	w.t.Helper()
	m, err := w.repo(as, "alice", name).Manifest(w.t.Context(), registry.Ref{Tag: tag})
	must(w.t, err)
	m.Pulled()
}

// pullCount is what the hold's public record says.
func (w *world) pullCount(name string) int {
	w.t.Helper()
	var page struct{ Records []anyRecord }
	get(w.t, w.holdDirect(), "com.atproto.repo.listRecords",
		url.Values{"repo": {w.holdServer.DID()}, "collection": {"io.atcr.hold.stats"}}, &page)
	for _, r := range page.Records {
		if r.Value["repository"] == name {
			n, ok := r.Value["pullCount"].(float64)
			if !ok {
				w.t.Errorf("pullCount is %v", r.Value["pullCount"])
			}
			return int(n)
		}
	}
	return 0
}

// counted is the metric of one kind of pull.
func counted(t *testing.T, b *pds.Backend, by, result string) int {
	t.Helper()
	metrics := make(chan prometheus.Metric, 16)
	go func() {
		for _, c := range b.Metrics() {
			c.Collect(metrics)
		}
		close(metrics)
	}()
	n := 0
	for m := range metrics {
		var d dto.Metric
		must(t, m.Write(&d))
		labels := map[string]string{}
		for _, l := range d.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["by"] == by && labels["result"] == result {
			n += int(d.GetCounter().GetValue())
		}
	}
	return n
}

// A pull without sign-in is told to the hold in the registry's own name: once an hour for a manifest, however many there are,
// beside those of accounts; and by no token before the hold asked for one.
func TestAnonymousPullsAreCounted(t *testing.T) {
	t.Parallel()
	self := ownTokens(t)
	var bare, signed atomic.Int64
	w := newWorld(t, devnetPDS, func(w *world) { w.options = func(o *pds.Options) { o.Self = self } })
	w.push("app", newImage(t, "one", nil), "v1")
	w.push("other", newImage(t, "two", nil), "v1")
	w.settled()
	w.backend.SendPulls() // the pushes' own notices are over
	w.holdProxy.Inject(realtest.Fault{Kind: realtest.Delay, Path: notifyMethod, Times: -1, Match: func(r *http.Request) bool {
		if r.Header.Get("Authorization") == "" {
			bare.Add(1)
		} else if bare.Load() > 0 {
			signed.Add(1)
		}
		return true
	}})
	w.restart() // so that it knows nothing of the hold any more
	for range 3 {
		w.pull("", "app", "v1")
	}
	w.stop()
	if n := w.pullCount("app"); n != 1 {
		t.Errorf("3 anonymous pulls at once count as %d", n)
	}
	if bare.Load() != 1 || signed.Load() != 1 {
		t.Errorf("%d notices without a token, then %d with one", bare.Load(), signed.Load())
	}
	if n := counted(t, w.backend, "anonymous", "told"); n != 1 {
		t.Errorf("the metric says %d", n)
	}
	w.start()
	w.pull("", "app", "v1")
	w.pull("alice", "app", "v1")
	w.pull("bob", "app", "v1")
	w.pull("", "other", "v1")
	must(t, realtest.WaitFor(time.Minute, func() error { // told on the timer, too
		w.clock.advance(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if err := w.backend.Run(ctx); err != nil {
			return err
		}
		if app, other := w.pullCount("app"), w.pullCount("other"); app != 3 || other != 1 {
			return fmt.Errorf("app %d (want 3: anonymous, alice, bob), other %d", app, other)
		}
		return nil
	}))
	if n := counted(t, w.backend, "account", "told"); n != 2 {
		t.Errorf("the metric says %d of accounts", n)
	}
}

// Without an identity of its own a registry counts no anonymous pulls and asks nothing.
func TestAnonymousPullsWithoutIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	w.push("app", newImage(t, "one", nil), "v1")
	w.settled()
	w.backend.SendPulls()
	w.holdProxy.Requests()
	w.pull("", "app", "v1")
	w.stop()
	for _, r := range w.holdProxy.Requests() {
		if strings.Contains(r, notifyMethod) {
			t.Error(r)
		}
	}
}

// A hold that refuses or fails costs the count and nothing else; one that refuses is left alone for an hour.
func TestAnonymousPullsRefused(t *testing.T) {
	t.Parallel()
	self := ownTokens(t)
	w := newWorld(t, devnetPDS, func(w *world) { w.options = func(o *pds.Options) { o.Self = self } })
	w.push("app", newImage(t, "one", nil), "v1")
	w.settled()
	w.backend.SendPulls() // whatever else of the push goes on in the background is over, too
	told := func() (n int) {
		w.pull("", "app", "v1") // succeeds whatever the hold does
		w.holdProxy.Requests()
		w.backend.SendPulls()
		for _, r := range w.holdProxy.Requests() {
			if strings.Contains(r, notifyMethod) {
				n++
			}
		}
		return n
	}
	for _, f := range []realtest.Fault{{Kind: realtest.Fail, Status: 500}, {Kind: realtest.Drop}} {
		f.Path = notifyMethod
		w.holdProxy.Inject(f)
		if told() != 1 {
			t.Error("a hold that failed was not asked")
		}
	}
	if n := counted(t, w.backend, "anonymous", "failed"); n != 2 {
		t.Errorf("%d failures counted", n)
	}
	w.holdProxy.Inject(realtest.Fault{Kind: realtest.Fail, Status: 403, Body: `{"error":"Forbidden"}`, Path: notifyMethod, Times: -1})
	if n := told(); n == 0 || n > 2 {
		t.Errorf("a hold was asked %d times", n)
	}
	for range 5 {
		if n := told(); n != 0 {
			t.Errorf("a hold that refused was asked %d times more", n)
		}
	}
	if n := counted(t, w.backend, "anonymous", "refused"); n != 6 {
		t.Errorf("%d refusals counted", n)
	}
	w.holdProxy.Clear()
	w.clock.advance(time.Hour + time.Second)
	if told() == 0 || w.pullCount("app") != 1 {
		t.Errorf("an hour later: count %d", w.pullCount("app"))
	}
}

// A hold of upstream's kind takes the notice of anybody with a token.
func TestAnonymousPullsUpstream(t *testing.T) {
	t.Parallel()
	self := ownTokens(t)
	var h *upstreamhold.Hold
	w := newWorld(t, devnetPDS, func(w *world) {
		w.options = func(o *pds.Options) {
			if h == nil {
				h = upstreamhold.Start(t, upstreamhold.Options{Owner: w.accounts["alice"].did, Directory: w.directory, Public: true})
			}
			o.DefaultHold, o.Self = h.DID, self
		}
	})
	w.push("app", newImage(t, "one", nil), "v1")
	w.settled()
	w.pull("", "app", "v1")
	w.pull("", "app", "v1")
	w.stop()
	if pulls, _ := h.Counts(w.accounts["alice"].did, "app"); pulls != 1 {
		t.Errorf("%d pulls", pulls)
	}
}

// One owner's pulls, which anybody can make, leave places for those of others.
func TestPullsOfOneOwner(t *testing.T) {
	t.Parallel()
	self := ownTokens(t)
	w := newWorld(t, devnetPDS, func(w *world) { w.options = func(o *pds.Options) { o.Self = self } })
	for i := range 10_000 {
		w.backend.AnonymousPull("did:web:greedy.test", "app", digest.FromString(fmt.Sprint(i)))
	}
	full := counted(t, w.backend, "anonymous", "full")
	w.backend.AnonymousPull(w.accounts["alice"].did, "app", digest.FromString("x"))
	if n := counted(t, w.backend, "anonymous", "full"); n != full || full != 9000 {
		t.Errorf("%d pulls of one owner found no place, then %d with another's", full, n)
	}
	w.backend.SendPulls()
	w.backend.AnonymousPull("did:web:greedy.test", "app", digest.FromString("y")) // two were sent
	if n := counted(t, w.backend, "anonymous", "full"); n != full {
		t.Error("no place was free again")
	}
}
