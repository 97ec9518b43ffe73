package plclog

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"
)

func TestWantedAliases(t *testing.T) {
	for _, c := range []struct{ now, old, handle, want string }{
		{"", "", "h.test", "at://h.test"},
		{"at://h.test", "", "h.test", "at://h.test"},
		{"at://h.test", "at://h.test", "h.test", "at://h.test"},
		{"at://old.test", "at://old.test", "h.test", "at://h.test"},
		{"at://foreign.test at://old.test", "at://old.test", "h.test", "at://h.test at://foreign.test"},
		{"https://x.test at://foreign.test at://h.test", "", "h.test", "https://x.test at://h.test at://foreign.test"},
		{"https://x.test", "", "h.test", "https://x.test at://h.test"},
		{"at://old.test at://foreign.test", "at://old.test", "", "at://foreign.test"},
		{"", "", "", ""},
	} {
		old := map[string]bool{}
		if c.old != "" {
			old[c.old] = true
		}
		if got := strings.Join(wantedAliases(strings.Fields(c.now), old, c.handle), " "); got != c.want {
			t.Errorf("%q, old %q, handle %q: %q, want %q", c.now, c.old, c.handle, got, c.want)
		}
	}
}

func TestWithRecovery(t *testing.T) {
	for _, c := range []struct{ now, want string }{
		{"ours", "rec ours"}, {"rec ours", "rec ours"}, {"ours rec", "rec ours"}, {"a ours b", "a rec ours b"}, {"a b",
			"rec a b"}, {"rec a ours", "rec a ours"}, {"a ours rec b", "a rec ours b"},
	} {
		now := strings.Fields(c.now)
		if got := strings.Join(withRecovery(now, "ours", "rec"), " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.now, got, c.want)
		}
		if strings.Join(now, " ") != c.now {
			t.Errorf("%s was changed in place to %v", c.now, now)
		}
	}
}

func TestNameWarnings(t *testing.T) {
	for _, c := range []struct {
		did, url string
		test     bool
		want     int
	}{
		{"did:web:hold.example.com", "https://hold.example.com", false, 0},
		{"did:web:hold.example.com", "https://other.example.com", false, 1},
		{"did:web:localhost%3A8080", "http://127.0.0.1:8080", true, 0},
		{"did:web:127.0.0.1%3A8080", "http://127.0.0.1:8080", true, 1},
		{"did:web:hold.test%3A8080", "http://hold.test:8080", true, 1},
		{"did:web:localhost%3A8080", "https://hold.example.com", false, 2},
		{"did:plc:ewvi7nxzyoun6zhxrhs64oiz", "http://127.0.0.1:8080", true, 0},
	} {
		if got := NameWarnings(syntax.DID(c.did), c.url, c.test); len(got) != c.want {
			t.Errorf("%s at %s: %q, want %d", c.did, c.url, got, c.want)
		}
	}
}

// twoOperations is a log as the directory answers it.
func twoOperations(t testing.TB) (syntax.DID, []byte) {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	op := didplc.RegularOp{
		Type: "plc_operation", RotationKeys: []string{pub.DIDKey()}, VerificationMethods: map[string]string{"atproto": pub.DIDKey()},
		AlsoKnownAs: []string{"at://h.test"}, Services: map[string]didplc.OpService{"atcr_hold": {Type: "x", Endpoint: "https://h.test"}},
	}
	if err := op.Sign(key); err != nil {
		t.Fatal(err)
	}
	did, err := op.DID()
	if err != nil {
		t.Fatal(err)
	}
	second, cid := op, op.CID().String()
	second.Prev, second.AlsoKnownAs = &cid, []string{"at://i.test"}
	if err := second.Sign(key); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal([]didplc.LogEntry{
		{DID: did, Operation: *op.AsOpEnum(), CID: cid, CreatedAt: "2026-01-01T00:00:00.000Z"},
		{DID: did, Operation: *second.AsOpEnum(), CID: second.CID().String(), CreatedAt: "2026-01-02T00:00:00.000Z"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return syntax.DID(did), b
}

// badLogs are made of a good one of two operations: each is refused, with the reason.
func badLogs(t testing.TB) (did syntax.DID, bad map[string][]byte) {
	t.Helper()
	did, good := twoOperations(t)
	other, theirs := twoOperations(t)
	stranger, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	alter := func(b []byte, f func([]didplc.LogEntry) []didplc.LogEntry) []byte {
		var entries []didplc.LogEntry
		if err := json.Unmarshal(b, &entries); err != nil {
			t.Fatal(err)
		}
		out, err := json.Marshal(f(entries))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	second := func(f func(e *didplc.LogEntry, op *didplc.RegularOp)) []byte {
		return alter(good, func(e []didplc.LogEntry) []didplc.LogEntry {
			f(&e[1], e[1].Operation.Regular)
			return e
		})
	}
	return did, map[string][]byte{
		"empty":         []byte("[]"),
		"no list":       []byte(`{"message":"not found"}`),
		"a page":        []byte("<html>"),
		"cut":           good[:len(good)/2],
		"another DID's": theirs,
		"another DID's renamed": alter(theirs, func(e []didplc.LogEntry) []didplc.LogEntry {
			e[0].DID, e[1].DID = did.String(),
				did.String()
			return e
		}),
		"without its genesis":  alter(good, func(e []didplc.LogEntry) []didplc.LogEntry { return e[1:] }),
		"genesis twice":        alter(good, func(e []didplc.LogEntry) []didplc.LogEntry { return append(e, e[0]) }),
		"out of order":         alter(good, func(e []didplc.LogEntry) []didplc.LogEntry { return []didplc.LogEntry{e[1], e[0]} }),
		"mixed with another's": alter(good, func(e []didplc.LogEntry) []didplc.LogEntry { e[1].DID = other.String(); return e }),
		"an entry without one": []byte(`[{"did":"` + did.String() + `","operation":null}]`),
		"CID lies": second(func(e *didplc.LogEntry, _ *didplc.RegularOp) {
			e.CID = "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454"
		}),
		"nullified by nothing": second(func(e *didplc.LogEntry, _ *didplc.RegularOp) { e.Nullified = true }),
		"changed after signing": second(func(e *didplc.LogEntry, op *didplc.RegularOp) {
			op.AlsoKnownAs = []string{"at://thief.test"}
			e.CID = op.CID().String()
		}),
		"link to nowhere": second(func(e *didplc.LogEntry, op *didplc.RegularOp) {
			p := "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454"
			op.Prev = &p
			e.CID = op.CID().String()
		}),
		"by a key not in the list": second(func(e *didplc.LogEntry, op *didplc.RegularOp) {
			if err := op.Sign(stranger); err != nil {
				t.Fatal(err)
			}
			e.CID = op.CID().String()
		}),
	}
}

func TestBadLogs(t *testing.T) {
	did, bad := badLogs(t)
	for name, b := range bad {
		if _, err := ParseLog(did, b); !errors.Is(err, ErrLog) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseLog(did, make([]byte, MaxLog+1)); !errors.Is(err, ErrLog) {
		t.Error(err)
	}
}

// Whatever the directory sends: an error, or a log that answers every question.
func FuzzPLCLog(f *testing.F) {
	did, b := twoOperations(f)
	f.Add(b, did.String())
	owner, bad := badLogs(f)
	for _, b := range bad {
		f.Add(b, owner.String())
	}
	f.Add([]byte(`[{"did":"did:plc:x","operation":null,"cid":"","createdAt":""}]`), "did:plc:x")
	f.Add([]byte(`[{"did":"did:plc:x","operation":{"type":"plc_tombstone","prev":"","sig":""},"cid":"","createdAt":"2026-01-01T00:00:00Z"}]`), "did:plc:x")
	f.Add([]byte(`[{"did":"did:plc:x","operation":{"type":"create"},"cid":"","createdAt":"2026-01-01T00:00:00Z"}]`), "did:plc:x")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		log, err := ParseLog(syntax.DID(name), b)
		if err != nil {
			return
		}
		head := log.Head()
		if head == nil || len(log.History()) != len(log.Entries) || log.continues(log) != nil {
			t.Fatal("a log that contradicts itself")
		}
		if _, err := State(head); err != nil && !log.Tombstoned() {
			t.Fatal(err)
		}
		key, err := atcrypto.GeneratePrivateKeyK256()
		if err != nil {
			t.Fatal(err)
		}
		if len(log.Revocable(key, time.Now())) > 0 {
			t.Fatal("a stranger's key may undo")
		}
	})
}

// A stored genesis is an error, or makes one DID, again and again.
func FuzzGenesis(f *testing.F) {
	_, b := twoOperations(f)
	var entries []struct {
		Operation json.RawMessage `json:"operation"`
	}
	if err := json.Unmarshal(b, &entries); err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		f.Add([]byte(e.Operation))
	}
	f.Add([]byte(`{"type":"plc_operation","prev":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		did, err := GenesisDID(b)
		if err != nil {
			return
		}
		op, err := parseGenesis(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := operationJSON(op)
		if err != nil {
			return // too long to be sent
		}
		if twice, err := GenesisDID(again); err != nil || twice != did {
			t.Fatalf("%s, then %s, %v", did, twice, err)
		}
	})
}

func TestFuzzSeedsAreGood(t *testing.T) {
	did, b := twoOperations(t)
	log, err := ParseLog(did, b)
	if err != nil {
		t.Fatal(err)
	}
	if h := log.History(); len(h) != 2 || !slices.Equal(h[1].Changes, []string{"also known as: at://h.test -> at://i.test"}) ||
		h[1].Rank != 1 {
		t.Errorf("%+v", h)
	}
}
