package plclog

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/did-method-plc/go-didplc/didplc"
)

// TestSigningKeysAt: the keys of a time are those of the operation that held then, and of its neighbours within the slack.
func TestSigningKeysAt(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	entry := func(key string, n int, nullified bool) didplc.LogEntry {
		op := didplc.RegularOp{Type: "plc_operation", VerificationMethods: map[string]string{"atproto": key, "other": "x"}}
		if key == "" {
			op.VerificationMethods = nil
		}
		return didplc.LogEntry{Operation: *op.AsOpEnum(), CreatedAt: day(n).Format("2006-01-02T15:04:05.000Z"), Nullified: nullified}
	}
	tombstone := didplc.LogEntry{Operation: *(&didplc.TombstoneOp{Type: "plc_tombstone"}).AsOpEnum(), CreatedAt: day(9).Format(time.RFC3339)}
	rotated := &Log{Entries: []didplc.LogEntry{entry("a", 2, false), entry("evil", 3, true), entry("b", 4, false), entry("b", 5, false),
		entry("", 6, false), entry("c", 7, false)}}
	given := &Log{Entries: append(slices.Clone(rotated.Entries), tombstone)}
	for _, c := range []struct {
		log   *Log
		at    time.Time
		slack time.Duration
		want  string
	}{
		{rotated, day(1), 0, "a"}, // before the directory knew it
		{rotated, day(3).Add(time.Hour), 0, "a"},
		{rotated, day(4).Add(-time.Second), time.Minute, "a b"},
		{rotated, day(4).Add(time.Second), time.Minute, "a b"},
		{rotated, day(4).Add(time.Hour), time.Minute, "b"},
		{rotated, day(5).Add(time.Hour), time.Minute, "b"},
		{rotated, day(6).Add(time.Hour), time.Minute, ""},
		{rotated, day(20), time.Hour, "c"},
		{given, day(8), time.Hour, "c"},
		{given, day(10), time.Hour, ""},
	} {
		got := c.log.SigningKeysAt(c.at, c.slack)
		slices.Sort(got)
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s, %s: %v, want %s", c.at, c.slack, got, c.want)
		}
	}
}
