package oauth

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/seal"
)

func TestMain(m *testing.M) { os.Exit(realtest.Main(m)) }

func newStore(t *testing.T) *store {
	t.Helper()
	dir := t.TempDir()
	db := realtest.OpenDatabase(t, filepath.Join(dir, "oauth.db"))
	if err := Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	keys, _, err := seal.Load(filepath.Join(dir, "seal.key"), sealLabel)
	if err != nil {
		t.Fatal(err)
	}
	return &store{db: db, seal: keys}
}

func TestRequestsAreTakenOnce(t *testing.T) {
	s, ctx, now := newStore(t), t.Context(), time.Unix(1_800_000_000, 0)
	put := func(state string) {
		t.Helper()
		if err := s.putRequest(ctx, state, "browser", []byte("plain "+state), now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	put("one")
	for name, c := range map[string]struct{ state, browser string }{"another state": {"two", "browser"}, "another browser": {"one", "other"}, "none": {}} {
		if b, err := s.takeRequest(ctx, c.state, c.browser, now); b != nil || err != nil {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	var got atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			switch b, err := s.takeRequest(ctx, "one", "browser", now); {
			case err != nil:
				t.Error(err)
			case b != nil && string(b) == "plain one":
				got.Add(1)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		t.Errorf("%d of 8 callers got it", got.Load())
	}
	put("late")
	if b, err := s.takeRequest(ctx, "late", "browser", now.Add(time.Minute)); b != nil || err != nil {
		t.Errorf("one that is over: %q, %v", b, err)
	}
	put("old")
	if err := s.dropRequests(ctx, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := s.db.Read().QueryRowContext(ctx, `select count(*) from oauth_request`).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d are left, %v", n, err)
	}
}
