package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/identity/oauth"
	"github.com/atcr-dev/atcr/internal/realtest"
	chromium "github.com/atcr-dev/atcr/internal/realtest/browser"
	"github.com/atcr-dev/atcr/sqldb/postgres"
)

// door counts, at a PDS's door, which refresh tokens are shown there and what the PDS says.
type door struct {
	mu        sync.Mutex
	shown     map[string]int // by refresh token, without those that were to be shown again with another nonce
	refreshed int
	refused   []string
	access    string // the newest access token
}

func watchDoor(p *realtest.FaultProxy) *door {
	d := &door{shown: map[string]int{}}
	p.Watch("/oauth/token", d.saw)
	return d
}

func (d *door) saw(e realtest.Exchange) {
	form, _ := url.ParseQuery(string(e.Body))
	var answer struct {
		Access string `json:"access_token"`
		Error  string
	}
	_ = json.Unmarshal(e.Answer, &answer)
	d.mu.Lock()
	defer d.mu.Unlock()
	if answer.Access != "" {
		d.access = answer.Access
	}
	if form.Get("grant_type") != "refresh_token" || answer.Error == "use_dpop_nonce" {
		return
	}
	d.shown[form.Get("refresh_token")]++
	if e.Status == http.StatusOK {
		d.refreshed++
	} else {
		d.refused = append(d.refused, fmt.Sprintf("%d %s", e.Status, e.Answer))
	}
}

func (d *door) newest() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.access
}

// check fails the test unless there were so many refreshes, each by a token of its own.
func (d *door) check(t *testing.T, least, most int) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refreshed < least || d.refreshed > most || len(d.shown) != d.refreshed || len(d.refused) > 0 {
		t.Errorf("%d refreshes by %d tokens, want %d to %d by as many; refused: %q", d.refreshed, len(d.shown), least, most, d.refused)
	}
	for _, times := range d.shown {
		if times != 1 {
			t.Errorf("a refresh token was shown %d times", times)
		}
	}
}

// TestOAuthRefresh: 16 writers and 4 readers go on while tokens end 20 times, by time and by the PDS's word, in turns: one refresh each,
// no request fails, no token is shown twice. By one process on SQLite or by two on one PostgreSQL.
func TestOAuthRefresh(t *testing.T) {
	t.Run("one", func(t *testing.T) { t.Parallel(); testOAuthRefresh(t, 1) })
	t.Run("two", func(t *testing.T) { t.Parallel(); testOAuthRefresh(t, 2) })
}

func testOAuthRefresh(t *testing.T, processes int) {
	const ends, writers, readers = 20, 16, 4
	n := realtest.Network(t, realtest.NetworkOptions{Proxied: true})
	alice := n.Account("alice")
	var later atomic.Int64
	keys := t.TempDir()
	var database string
	if processes > 1 {
		database = realtest.Postgres(t).Database(t)
	}
	change := func(c *oauth.Config) {
		c.Clock = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
		c.KeyPath, c.SealPath = filepath.Join(keys, "client.key"), filepath.Join(keys, "seal.key")
		if database != "" {
			c.DB = must(postgres.Open(t.Context(), database))(t)
			t.Cleanup(func() { _ = c.DB.Close() })
		}
	}
	first := startApplication(t, n, change)
	apps := []*application{first}
	for len(apps) < processes {
		apps = append(apps, startApplication(t, n, func(c *oauth.Config) { change(c); c.URL = first.URL }))
	}
	d := watchDoor(n.Proxy[0])
	grant := first.signIn(t, chromium.New(t, chromium.Options{}).Page(t), alice)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var stop atomic.Bool
	var workers sync.WaitGroup
	done := make([]atomic.Int64, writers+readers)
	for i := range done {
		app := apps[i%len(apps)]
		workers.Go(func() {
			for k := 0; !stop.Load() && ctx.Err() == nil; k++ {
				var err error
				if i < writers {
					err = app.writeTag(ctx, grant, alice.DID, "io.atcr.tag", fmt.Sprintf("w%d-%d", i, k))
				} else {
					err = app.ask(ctx, grant, http.MethodGet, "com.atproto.server.getSession", nil, nil)
				}
				if err != nil {
					t.Errorf("worker %d, request %d: %v", i, k, err)
					cancel()
				}
				done[i].Add(1)
			}
		})
	}
	// each waits until every worker has had an answer to a request that it began now or later.
	each := func(what string) {
		before := make([]int64, len(done))
		for i := range done {
			before[i] = done[i].Load()
		}
		err := realtest.WaitFor(5*time.Minute, func() error {
			for i := range done {
				if ctx.Err() == nil && done[i].Load() < before[i]+2 {
					return fmt.Errorf("worker %d waits", i)
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			cancel()
		}
	}
	each("at first")
	for i := range ends {
		if i%2 == 0 {
			later.Add(int64(time.Hour)) // that is how long a token of the reference PDS lives
		} else {
			old := "DPoP " + d.newest()
			n.Proxy[0].Inject(realtest.Fault{
				Kind: realtest.Fail, Status: http.StatusUnauthorized, Path: "/xrpc/", Times: -1, Body: `{"error":"invalid_token"}`,
				Header: http.Header{"Www-Authenticate": {`DPoP error="invalid_token", error_description="expired"`}},
				Match:  func(r *http.Request) bool { return r.Header.Get("Authorization") == old },
			})
		}
		each(fmt.Sprintf("end %d", i))
	}
	stop.Store(true)
	workers.Wait()
	d.check(t, ends, ends)
	var all int64
	for i := range writers {
		all += done[i].Load()
	}
	if got := len(n.Records(t, "alice", "io.atcr.tag")); int64(got) != all {
		t.Errorf("%d records, want %d", got, all)
	}
	for _, app := range apps {
		g := must(app.Grant(t.Context(), grant))(t)
		if g.Ended != "" || g.Lost || strings.Join(g.Missing, " ") != "" {
			t.Errorf("the grant at the end: %+v", g)
		}
	}
}
