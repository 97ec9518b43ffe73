package firehose

import (
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"
)

// FuzzCursor: a cursor is one number, or there is none.
func FuzzCursor(f *testing.F) {
	for _, s := range []string{"", "cursor=", "cursor=0", "cursor=5", "cursor=-1", "cursor=+1", "cursor=1&cursor=2", "cursor=99999999999999999999", "cursor=0x1",
		"cursor=1_0", "cursor=%31", "x=1;cursor=2", "cursor=1%00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/xrpc/com.atproto.sync.subscribeRepos", nil)
		r.URL.RawQuery = query
		cursor, live, err := parseCursor(r)
		q, _ := url.ParseQuery(query)
		switch {
		case err != nil:
		case live != !q.Has("cursor"), cursor < 0, live && cursor != 0:
			t.Fatalf("%q: %d, live %v", query, cursor, live)
		case !live && len(q["cursor"]) != 1:
			t.Fatalf("%q: of several cursors %d", query, cursor)
		case !live:
			if n, err := strconv.ParseInt(q.Get("cursor"), 10, 64); err != nil || n != cursor {
				t.Fatalf("%q: %d", query, cursor)
			}
		}
	})
}
