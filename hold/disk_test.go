package hold_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// TestDiskFull: with its disk full a hold refuses what would change its repository with 507 and says so in its log;
// with space again it goes on, with everything it acknowledged.
func TestDiskFull(t *testing.T) {
	realtest.OnlySQLite(t)
	disk := realtest.NewSmallDisk(t, 8<<20)
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) { c.Dir, c.AllowAllCrew = disk.Dir, true })
	join := func(name string) (int, map[string]any) {
		return h.call(n.user(name), "POST", "io.atcr.hold.requestCrew", "", map[string]any{})
	}
	if code, body := join("early"); code != http.StatusOK {
		t.Fatalf("%d %v", code, body)
	}
	disk.Fill(0)
	// The log of the database may have room left in its file: a few requests may still go through.
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "p", "q"}
	joined, full := []string{"early"}, 0
	for _, name := range names {
		code, body := join(name)
		switch code {
		case http.StatusOK:
			joined = append(joined, name)
		case http.StatusInsufficientStorage:
			if full++; body["error"] != "InsufficientStorage" || !strings.Contains(body["message"].(string), "no space") {
				t.Errorf("body %v", body)
			}
		default:
			t.Fatalf("%s: %d %v", name, code, body)
		}
	}
	if full == 0 {
		t.Fatal("the disk was never full")
	}
	if log := h.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "no space left: the request was refused") {
		t.Errorf("the log says %s", log)
	}
	t.Logf("%d joined, %d were refused", len(joined), full)
	disk.Free()
	h.stop()
	h.start()
	if code, body := join("late"); code != http.StatusOK {
		t.Errorf("with space again: %d %v", code, body)
	}
	for _, name := range append(joined, "late") {
		if r, err := h.client(n.user(name)).RequestCrew(t.Context()); err != nil || r.Status != "already_member" {
			t.Errorf("%s is no crew any more: %+v, %v", name, r, err)
		}
	}
}
