package room

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// disk is one of a made-up size; each thing on it has a mebibyte that can be freed.
func disk(total, free int64, things int) (*Disk, *int) {
	freed := 0
	d := New("", func(context.Context, string) (int64, error) {
		if freed == things {
			return 0, nil
		}
		freed++
		free += 1 << 20
		return 1 << 20, nil
	})
	d.space = func(string) (int64, int64, bool) { return free, total, true }
	return d, &freed
}

func TestMake(t *testing.T) {
	const total = 64 << 20 // 4 MiB are kept
	for _, test := range []struct {
		name   string
		free   int64
		things int
		n      int64
		freed  int
		full   bool
	}{
		{"room", 10 << 20, 3, 1 << 20, 0, false},
		{"into what is kept", 5<<20 - 1, 3, 1 << 20, 1, false},
		{"nothing free", 0, 9, 1 << 20, 5, false},
		{"not enough to remove", 0, 3, 1 << 20, 3, true},
		{"nothing to remove", 4 << 20, 0, 1, 0, true},
	} {
		d, freed := disk(total, test.free, test.things)
		err := d.Make(t.Context(), "alice", test.n)
		var full *FullError
		if errors.As(err, &full) != test.full || errors.Is(err, ErrFull) != test.full || *freed != test.freed {
			t.Errorf("%s: %v, %d things removed, want %d", test.name, err, *freed, test.freed)
		}
		if full != nil && (full.Total != total || full.Reserve != 4<<20 || !strings.Contains(full.Error(), "of 64 MiB are free")) {
			t.Errorf("%s: %v", test.name, full)
		}
	}
}

// A disk that gives bytes back late, or never, doesn't cost everything that is on it.
func TestMakeStops(t *testing.T) {
	d, freed := disk(64<<20, 0, 100)
	d.space = func(string) (int64, int64, bool) { return 2 << 20, 64 << 20, true }
	if err := d.Make(t.Context(), "alice", 1<<20); !errors.Is(err, ErrFull) || *freed != 3 {
		t.Errorf("%v, %d things removed, want 3", err, *freed)
	}
}

func TestSame(t *testing.T) {
	dir := t.TempDir()
	if _, _, ok := space(dir); ok != Same(dir, filepath.Dir(dir)) || Same(dir, filepath.Join(dir, "none")) {
		t.Error("a folder is on another disk than the one that it lies in, or one is that isn't there")
	}
}

func TestReaderStopsInTime(t *testing.T) {
	d, _ := disk(64<<20, 7<<20, 0)
	space := d.space
	body := bytes.NewReader(make([]byte, 16<<20))
	d.space = func(p string) (int64, int64, bool) {
		free, total, ok := space(p)
		return free - (16<<20 - int64(body.Len())), total, ok // what was read was written
	}
	n, err := io.Copy(io.Discard, d.Reader(t.Context(), "alice", body))
	if !errors.Is(err, ErrFull) || n < 2<<20 || n > 3<<20 {
		t.Errorf("%d bytes were let through, %v", n, err)
	}
}

// The real system's figures.
func TestSpace(t *testing.T) {
	free, total, ok := space(t.TempDir())
	if ok && (free < 0 || total < free) {
		t.Errorf("%d of %d", free, total)
	}
	if d := New("/no/such/folder", nil); d.Make(t.Context(), "", 1<<60) != nil {
		t.Error("an unknown disk is full")
	}
}

func TestOrder(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	all := []Thing{
		{"small", "alice", 10, ago(20 * time.Hour)},
		{"fresh", "mallory", 100, ago(time.Minute)},
		{"empty", "mallory", 0, ago(23 * time.Hour)},
		{"old", "mallory", 50, ago(time.Hour)},
		{"bob's", "bob", 90, ago(time.Hour)},
		{"future", "mallory", 1, ago(-time.Hour)},
	}
	for owner, want := range map[string]string{
		"carol":   "old fresh future bob's small",
		"alice":   "old fresh future bob's small",
		"bob":     "old fresh future bob's",
		"mallory": "old fresh future",
		"":        "old fresh future bob's small",
	} {
		var got []string
		for _, t := range Order(all, nil, owner, now) {
			got = append(got, t.ID)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("for %q: %s, want %s", owner, s, want)
		}
	}
	var got []string
	for _, t := range Order(all, map[string]int64{"alice": 1000, "carol": 80}, "carol", now) {
		got = append(got, t.ID)
	}
	if s := strings.Join(got, " "); s != "small old fresh future bob's" {
		t.Errorf("with what can't go: %s", s)
	}
}
