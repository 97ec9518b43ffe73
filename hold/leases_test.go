package hold_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/storage"
	"github.com/atcr-dev/atcr/storage/memstore"
)

// Leases: counted to the quota, settled from the pusher's records when they run out, prolonged while the PDS is down.
func TestLeases(t *testing.T) {
	h, alice, config, layer := pushed(t)
	ctx, c := t.Context(), h.client(alice)
	orphan := h.push(alice, data(9, 500))
	quota := func() int64 {
		q, err := c.GetQuota(ctx, alice.did)
		must(t, err)
		return q.TotalSize
	}
	if got := quota(); got != 1502 {
		t.Fatalf("leases count %d bytes, want 1502", got)
	}
	// The record stands and nobody told the hold.
	alice.putManifest(t, h, "app", config, layer)
	must(t, h.Maintain(ctx))
	if len(h.layers()) != 0 {
		t.Fatal("settled before the leases ran out")
	}
	h.net.now.Store(25 * 3600)
	alice.down.Store(true)
	must(t, h.Maintain(ctx))
	if got := quota(); got != 1502 || len(h.layers()) != 0 {
		t.Fatalf("while the PDS is down: %d bytes, %d layers", got, len(h.layers()))
	}
	alice.down.Store(false)
	h.net.now.Store(27 * 3600)
	must(t, h.Maintain(ctx))
	if got := quota(); got != 1002 || len(h.layers()) != 2 {
		t.Fatalf("settled: %d bytes, %d layers; want 1002 and 2 (%s is nobody's)", got, len(h.layers()), orphan)
	}
	// Touching renews, for seven days in all.
	_, err := c.CheckBlobs(ctx, alice.did, "app", []digest.Digest{orphan})
	must(t, err)
	for day := 1; day <= 9; day++ {
		h.net.now.Store(int64(27+day*20) * 3600)
		if day*20 < 7*24 {
			_, err = c.CheckBlobs(ctx, alice.did, "app", []digest.Digest{orphan})
			must(t, err)
		}
		must(t, h.Maintain(ctx))
		if got, want := quota() == 1502, day*20 < 7*24; got != want {
			t.Errorf("after %d hours leased=%v, want %v", day*20, got, want)
		}
	}
}

// A digest counts once, however it is leased; more of them than one may have are refused.
func TestLeaseBound(t *testing.T) {
	h, alice, config, _ := pushed(t)
	var many []digest.Digest
	for i := range 9_998 { // and the two of the push
		many = append(many, digest.FromString(fmt.Sprint(i)))
	}
	must(t, h.LeaseForTest(alice.did, many))
	check := func(d digest.Digest) (int, map[string]any) {
		return h.call(alice, "POST", "io.atcr.hold.checkBlobs", "", map[string]any{"repository": "new", "digests": []digest.Digest{d}})
	}
	if code, out := check(config); code != 200 {
		t.Errorf("of one that is leased for another repository: %d %v", code, out)
	}
	foreign := h.push(h.owner, data(7, 100))
	code, out := check(foreign)
	if code != 403 || out["error"] != "TooManyLeases" {
		t.Errorf("%d %v", code, out)
	}
	_, err := h.client(alice).CheckBlobs(t.Context(), alice.did, "new", []digest.Digest{foreign})
	if !errors.Is(err, holdclient.ErrQuotaExceeded) {
		t.Error(err)
	}
	// A digest that isn't here takes no lease.
	if code, out := check(digest.FromString("nowhere")); code != 200 {
		t.Errorf("%d %v", code, out)
	}
}

// front puts a handler before a user's PDS.
func (h *testHold) front(u *user, f func(w http.ResponseWriter, r *http.Request, pds http.Handler)) {
	h.t.Helper()
	to, err := url.Parse(u.pds)
	must(h.t, err)
	pds := httputil.NewSingleHostReverseProxy(to)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f(w, r, pds) }))
	h.t.Cleanup(srv.Close)
	pub, err := u.key.PublicKey()
	must(h.t, err)
	insert(h.net.dir, childUser{u.did, pub.Multibase(), srv.URL})
}

func (h *testHold) used(u *user) int64 {
	h.t.Helper()
	q, err := h.client(u).GetQuota(h.t.Context(), u.did)
	must(h.t, err)
	return q.TotalSize
}

// Whatever a pusher's PDS does for ever, its leases end after a week.
func TestPDSGoneForGood(t *testing.T) {
	const record = `{"uri":"at://%s/io.atcr.manifest/x%d","cid":"x","value":{"$type":"io.atcr.manifest"}}`
	for name, pds := range map[string]func(w http.ResponseWriter, r *http.Request, pds http.Handler){
		"errors": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { http.Error(w, "no", 500) },
		"cut":    func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) },
		"no such account": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"error":"RepoNotFound","message":"gone"}`)
		},
		"a page too long": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			_, _ = w.Write(bytes.Repeat([]byte(" "), 8<<20))
		},
		"a cursor too long": func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			fmt.Fprintf(w, `{"cursor":"%s","records":[`+record+`]}`, strings.Repeat("x", 4<<10), "did", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, alice, _, _ := pushed(t)
			h.front(alice, pds)
			for day := range 30 {
				h.net.now.Store(int64(day) * 24 * 3600)
				must(t, h.Maintain(t.Context()))
				if got, want := h.used(alice) == 1002, day <= 6; day != 7 && got != want {
					t.Fatalf("after %d days %d bytes are leased", day, h.used(alice))
				}
			}
		})
	}
}

// A manifest record that can't be read keeps the leases for a week, since it may name what they are on; the others are recorded.
func TestRecordUnread(t *testing.T) {
	h, alice, config, layer := pushed(t)
	orphan := h.push(alice, data(9, 500))
	alice.putManifest(t, h, "app", config, layer)
	lost, body := alice.putManifest(t, h, "app", config, orphan)
	var denied atomic.Int64
	h.front(alice, func(w http.ResponseWriter, r *http.Request, pds http.Handler) {
		if r.URL.Query().Get("cid") == repo.BlobCID(body).String() {
			denied.Add(1)
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"error":"BlobNotFound","message":"gone"}`)
			return
		}
		pds.ServeHTTP(w, r)
	})
	for _, day := range []int64{2, 4, 6} {
		h.net.now.Store(day * 24 * 3600)
		must(t, h.Maintain(t.Context()))
		if got := h.used(alice); got != 1502 || len(h.layers()) != 2 {
			t.Errorf("after %d days: %d bytes, %d layer records", day, got, len(h.layers()))
		}
	}
	h.net.now.Store(8 * 24 * 3600)
	must(t, h.Maintain(t.Context()))
	if got := h.used(alice); got != 1002 || denied.Load() == 0 {
		t.Errorf("after a week: %d bytes; asked for %s %d times", got, lost, denied.Load())
	}
}

// When time does not suffice for a user's records the next try goes on where this one stopped, and says since when.
func TestSettlingGoesOn(t *testing.T) {
	h, alice, config, _ := pushed(t)
	for i := range 12 {
		alice.putManifest(t, h, "app", config, h.push(alice, data(uint64(100+i), 10)))
	}
	var begun, pages, fails atomic.Int64
	stop := make(chan context.CancelFunc, 1)
	h.front(alice, func(w http.ResponseWriter, r *http.Request, pds http.Handler) {
		q := r.URL.Query()
		if strings.HasSuffix(r.URL.Path, "listRecords") {
			pages.Add(1)
			if q.Get("cursor") == "" {
				begun.Add(1)
			} else if n := fails.Add(1); n == 1 || n == 3 { // the second page, and the third, at the first time
				(<-stop)()
				<-r.Context().Done()
				return
			}
			q.Set("limit", "5")
			r.URL.RawQuery = q.Encode()
		}
		pds.ServeHTTP(w, r)
	})
	start := h.net.clock()
	for i, want := range []int{5, 10, 12} {
		ctx, cancel := context.WithCancel(t.Context())
		stop <- cancel
		asOf, err := h.SettleForTest(ctx, alice.did)
		cancel()
		if got := len(h.layers()); got != 2*want { // each has the config, too
			t.Errorf("try %d: %d layer records, want %d", i, got, 2*want)
		}
		if last := want == 12; last != (err == nil) || last && asOf.Sub(start) > time.Hour {
			t.Errorf("try %d: as of %s, %v", i, asOf, err)
		}
		h.net.now.Add(3600)
	}
	if begun.Load() != 1 {
		t.Errorf("begun %d times, %d pages", begun.Load(), pages.Load())
	}
}

// A page that is too long is asked for in smaller ones.
func TestLongPages(t *testing.T) {
	h, alice, config, layer := pushed(t)
	alice.putManifest(t, h, "app", config, layer)
	limits := make(chan string, 100)
	h.front(alice, func(w http.ResponseWriter, r *http.Request, pds http.Handler) {
		if strings.HasSuffix(r.URL.Path, "listRecords") {
			limits <- r.URL.Query().Get("limit")
			if n, _ := strconv.Atoi(r.URL.Query().Get("limit")); n > 10 {
				_, _ = w.Write(bytes.Repeat([]byte(" "), 5<<20))
				return
			}
		}
		pds.ServeHTTP(w, r)
	})
	if _, err := h.SettleForTest(t.Context(), alice.did); err != nil || len(h.layers()) != 2 {
		t.Errorf("%v, %d layer records", err, len(h.layers()))
	}
	close(limits)
	var asked []string
	for l := range limits {
		asked = append(asked, l)
	}
	if got := strings.Join(asked, " "); got != "100 25 6 6" {
		t.Errorf("pages of %s", got)
	}
}

// watched is a storage that tells of each look.
type watched struct {
	storage.Store
	look atomic.Pointer[func(digest.Digest) error]
}

func (w *watched) Stat(ctx context.Context, d digest.Digest) (storage.Info, error) {
	if f := w.look.Load(); f != nil {
		if err := (*f)(d); err != nil {
			return storage.Info{}, err
		}
	}
	return w.Store.Stat(ctx, d)
}

// What a pusher is told of was looked for under a lease: a blob that goes between the lease and the look is told absent.
func TestLeasedFirst(t *testing.T) {
	store := &watched{Store: memstore.New()}
	h, alice, _, _ := pushed(t, func(c *hold.Config) { c.Storage = store })
	foreign := h.push(h.owner, data(7, 500))
	check := func() []any {
		t.Helper()
		code, out := h.call(alice, "POST", "io.atcr.hold.checkBlobs", "",
			map[string]any{"repository": "app", "digests": []digest.Digest{foreign}})
		if code != 200 {
			t.Fatalf("%d %v", code, out)
		}
		return out["present"].([]any)
	}
	var leased atomic.Bool
	look := func(d digest.Digest) error {
		if d == foreign && h.used(alice) == 1502 {
			leased.Store(true)
			return storage.ErrNotFound
		}
		return nil
	}
	store.look.Store(&look)
	if got := check(); len(got) != 0 || !leased.Load() {
		t.Errorf("told %v; looked for under a lease: %v", got, leased.Load())
	}
	store.look.Store(nil)
	if got := check(); len(got) != 1 {
		t.Errorf("told %v", got)
	}
}

// A member's PDS that begins an answer and stalls is waited for as long as the budget of such answers says, not until the call's time
// is over, and takes its share of that budget alone.
func TestStallingPDS(t *testing.T) {
	if os.Getenv("ATCR_LONG") == "" {
		t.Skip("ATCR_LONG is not set")
	}
	t.Parallel()
	h, alice, config, layer := pushed(t)
	d, _ := alice.putManifest(t, h, "app", config, layer)
	h.front(alice, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = w.Write(bytes.Repeat([]byte(" "), 1<<20))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	began := time.Now()
	if code, out := h.notify(alice, "push", "app", d); code != 503 || time.Since(began) > 25*time.Second {
		t.Errorf("%d %v after %s", code, out, time.Since(began))
	}
	if code, out := h.notify(h.owner, "push", "app", d); code != 400 {
		t.Errorf("another's: %d %v", code, out)
	}
}
