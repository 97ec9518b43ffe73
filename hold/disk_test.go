package hold_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/holdclient"
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

// One push that is too large does not stop all others for a day: the uploads of the member who takes most go first, and the log of the
// database has its part of the disk.
func TestFullDiskEmpties(t *testing.T) {
	realtest.OnlySQLite(t)
	disk := realtest.NewSmallDisk(t, 24<<20)
	n := newNetwork(t)
	h := newHold(t, n, func(c *hold.Config) { c.Dir, c.AllowAllCrew = disk.Dir, true })
	mallory, bob := n.user("mallory"), n.user("bob")
	for _, u := range []*user{mallory, bob} {
		if _, err := h.client(u).RequestCrew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	begun := func(u *user, n int, sizes ...int) (id string, parts []holdclient.Part, err error) {
		id, err = h.client(u).InitiateUpload(ctx, "")
		must(t, err)
		for i, size := range sizes {
			var p holdclient.Part
			if p, err = h.client(u).UploadPart(ctx, id, n+i, int64(size), bytes.NewReader(make([]byte, size))); err != nil {
				return id, parts, err
			}
			parts = append(parts, p)
		}
		return id, parts, nil
	}
	id, parts, err := begun(bob, 1, 100_000)
	must(t, err)
	_, _, err = begun(mallory, 2, 3<<20) // early, in the spool
	must(t, err)
	for range 3 {
		_, _, err = begun(mallory, 1, 8<<20, 8<<20, 8<<20, 8<<20)
		var refused *holdclient.Error
		if !errors.As(err, &refused) || refused.Kind != holdclient.ErrNoSpace || !strings.Contains(refused.Message, "of 24 MiB are free") ||
			!strings.Contains(refused.Message, "captain can help") {
			t.Fatalf("a blob of 32 MiB: %v", err)
		}
	}
	n.now.Add(120) // until then somebody may be at work on them
	h.push(h.owner, data(5, 1<<20))
	must(t, h.client(bob).CompleteUpload(ctx, id, digest.FromBytes(make([]byte, 100_000)), parts))
	if _, err := h.client(n.user("late")).RequestCrew(ctx); err != nil {
		t.Errorf("the database: %v", err)
	}
}
