package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	indigo "github.com/bluesky-social/indigo/atproto/repo"

	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
	"github.com/atcr-dev/atcr/repo/sqlstore"
)

const relayed = 60 * time.Second // for an event to come through, on a busy machine

// follower compares what comes out of the relay with what a hold committed.
type follower struct {
	t      *testing.T
	h      *runningHold
	relay  *realtest.RelayServer
	events *realtest.Subscription
	after  int64          // the hold's event that was seen last
	seen   map[int64]bool // the hold's numbers
	last   int64          // the relay's number
	// #identity and #account: when the relay connects anew it asks for some events that it had, and passes these on again
	told  map[string]bool
	kinds map[string]int
	ops   map[string]int
}

// everything: each event of the hold has come through the relay, in order and to the byte but for its number.
func (f *follower) everything(when string) {
	f.t.Helper()
	want := f.h.events(f.after)
	if len(want) == 0 {
		f.t.Fatalf("%s: the hold has no new event", when)
	}
	for i, w := range want {
		got, err := f.events.Next(relayed)
		for err == nil && f.told[unnumbered(f.t, got)] {
			got, err = f.events.Next(relayed)
		}
		if err != nil {
			f.t.Fatalf("%s: event %d of %d, %s: %v\n%+v", when, i+1, len(want), w.Kind, err, f.relay.Complaints())
		}
		if a, b := unnumbered(f.t, got), unnumbered(f.t, w); a != b {
			f.t.Fatalf("%s: event %d of %d came through as\n%.1500s\nthe hold wrote\n%.1500s\n%+v", when, i+1, len(want), a, b, f.relay.Complaints())
		}
		f.after, f.seen[w.Seq], f.last = w.Seq, true, got.Seq
		f.kinds[w.Kind]++
		if w.Identity != nil || w.Account != nil {
			f.told[unnumbered(f.t, w)] = true
		}
		if w.Commit == nil {
			continue
		}
		for _, op := range w.Commit.Ops {
			f.ops[op.Action]++
		}
		if w.Commit.PrevData == nil {
			continue // the first one
		}
		if _, err := indigo.VerifyCommitMessage(f.t.Context(), w.Commit); err != nil {
			f.t.Errorf("%s: event %d of %d: indigo can't undo it: %v", when, i+1, len(want), err)
		}
	}
}

// content: the relay has nothing to say against what it saw, but for the given lines.
func (f *follower) content(when string, but ...string) {
	f.t.Helper()
	for _, c := range f.relay.Complaints() {
		if c.Message == "dropping commit with old rev" && f.seen[c.Seq] {
			continue // each time that it connects it asks for one that it had
		}
		if !slices.Contains(but, c.Message) {
			f.t.Errorf("%s: the relay complains: %+v", when, c)
		}
	}
}

// unnumbered is an event without its number, which each server gives itself.
func unnumbered(t *testing.T, e realtest.Event) string {
	t.Helper()
	var v any
	switch {
	case e.Commit != nil:
		c := *e.Commit
		c.Seq, v = 0, &c
	case e.Sync != nil:
		c := *e.Sync
		c.Seq, v = 0, &c
	case e.Identity != nil:
		c := *e.Identity
		c.Seq, v = 0, &c
	case e.Account != nil:
		c := *e.Account
		c.Seq, v = 0, &c
	}
	js, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return e.Kind + string(js)
}

// TestRelayFollowsHold: indigo's relay, with its checks on, passes all on that a hold does: commits of every kind, imports,
// a new signing key, and a machine that was lost and restored.
func TestRelayFollowsHold(t *testing.T) {
	t.Parallel()
	n := realtest.Network(t, realtest.NetworkOptions{})
	h := newRunningHold(t, n.PLC, n.Account("alice").DID)
	h.start()
	relay := realtest.Relay(t, realtest.RelayOptions{PLC: n.PLC, Hosts: []string{h.host}})
	f := &follower{t: t, h: h, relay: relay, events: realtest.Subscribe(t, relay.URL, 0), seen: map[int64]bool{},
		told: map[string]bool{}, kinds: map[string]int{}, ops: map[string]int{}}

	join(t, n, h, "bob")
	f.everything("bob has joined")

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	some := newRandomRecords(rand.New(rand.NewPCG(seed, 5)), "io.atcr.tag", "io.atcr.tag.more", "app.unknown.thing")
	h.offline(func(r *repo.Repo) {
		for range 60 {
			apply(t, r, some.writes(t, 1+some.rnd.IntN(30)))
		}
		apply(t, r, some.writes(t, 200))
	})
	f.everything("commits")
	if f.kinds["#sync"] > 0 || f.ops["create"] == 0 || f.ops["update"] == 0 || f.ops["delete"] == 0 {
		t.Errorf("commits were %v, operations %v", f.kinds, f.ops)
	}
	h.offline(func(r *repo.Repo) {
		apply(t, r, some.writes(t, 201)) // more than an event takes
		apply(t, r, some.writes(t, 2))
		var large []repo.Write
		for i := range 3 {
			large = append(large, put(t, "io.atcr.large", fmt.Sprint(i), bytes.Repeat([]byte("x"), 900_000)))
		}
		apply(t, r, large)
		apply(t, r, some.writes(t, 2))
	})
	f.everything("large commits")
	if f.kinds["#sync"] != 2 {
		t.Errorf("two commits that no event takes: %v", f.kinds)
	}

	h.offline(func(r *repo.Repo) {
		for _, records := range []int{5000, 150} {
			got, err := repo.ImportCAR(t.Context(), r, someCAR(t, fmt.Sprint("io.atcr.imported", records), records))
			if err != nil || got.Created != int64(records) {
				t.Fatal(got.Created, err)
			}
			apply(t, r, some.writes(t, 3))
		}
	})
	f.everything("imports")
	if f.kinds["#sync"] != 3 {
		t.Errorf("an import of 5000 records and one of 150: %v", f.kinds)
	}

	h.rotateKey()
	h.offline(func(r *repo.Repo) { apply(t, r, some.writes(t, 5)) })
	f.everything("a new key")
	if f.kinds["#identity"] == 0 {
		t.Errorf("no identity event: %v", f.kinds)
	}
	if _, err := h.server.RotateSigningKey(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	f.everything("another key, while the hold runs")
	h.offline(func(r *repo.Repo) { apply(t, r, some.writes(t, 5)) })
	f.everything("commits by it")
	f.content("before the machine is lost")
	relay.Restart(t)
	f.events = realtest.Subscribe(t, relay.URL, f.last)
	h.offline(func(r *repo.Repo) { apply(t, r, some.writes(t, 5)) })
	f.everything("the relay was restarted")
	f.content("the relay was restarted")

	h.restored(f, some)
	t.Logf("events %v, operations %v", f.kinds, f.ops)
}

// restored loses the machine and restores a backup that is older than what the relay has seen.
func (h *runningHold) restored(f *follower, some *randomRecords) {
	t := h.t
	t.Helper()
	var backup bytes.Buffer
	h.read(func(r *repo.Repo) {
		if err := repo.ExportCAR(t.Context(), r, &backup, nil); err != nil {
			t.Fatal(err)
		}
	})
	h.offline(func(r *repo.Repo) { apply(t, r, some.writes(t, 5)) })
	f.everything("after the backup")
	h.stop()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(h.cfg.Dir, "repo.db"+suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	store, err := sqlstore.Open(t.Context(), filepath.Join(h.cfg.Dir, "repo.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = repo.MirrorCAR(t.Context(), store, repo.Source{Reader: &backup, AnyKey: true}, nil)
	if err := errors.Join(err, store.Close()); err != nil {
		t.Fatal(err)
	}
	seen := f.after
	h.offline(func(r *repo.Repo) {
		if err := r.JumpSeq(t.Context(), seen+1_000_000_000); err != nil {
			t.Fatal(err)
		}
		apply(t, r, []repo.Write{put(t, "io.atcr.after", "restore", []byte("x"))})
	})
	f.everything("restored")
	if f.after <= seen+1_000_000_000 {
		t.Errorf("event %d after %d", f.after, seen)
	}
	h.offline(func(r *repo.Repo) { apply(t, r, []repo.Write{put(t, "io.atcr.after", "more", []byte("x"))}) })
	f.everything("after the restore")
	// The backup is older than what the relay knew, and it sees that: so a consumer learns that it has to fetch the repository anew.
	f.content("restored", "commit with miss-matching prevData", "commit with miss-matching since")
}

// rotateKey gives the hold another signing key, as atcr-hold identity rotate-key does.
func (h *runningHold) rotateKey() {
	h.t.Helper()
	h.stop()
	cfg := h.dataDir().Identity
	id, err := identity.Load(cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	lock, err := durable.LockDir(h.cfg.Dir)
	if err != nil {
		h.t.Fatal(err)
	}
	m, err := plc.NewManager(id, cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	_, err = m.Rotate(h.t.Context(), plc.RotateOptions{Type: "p256"})
	fresh := m.Identity()
	if err := errors.Join(err, lock.Close()); err != nil {
		h.t.Fatal(err)
	}
	if fresh.Key.Equal(id.Key) {
		h.t.Error("the key is the same")
	}
	h.start()
}

// join makes an account of the network crew of the hold.
func join(t *testing.T, n *realtest.Net, h *runningHold, name string) {
	t.Helper()
	c := holdclient.New(holdclient.Options{DID: h.server.DID(), URL: h.cfg.PublicURL, HasHoldService: true, HTTP: http.DefaultClient,
		Token: func(_ context.Context, aud, lxm string) (string, error) { return n.ServiceAuth(t, name, aud, lxm), nil }})
	if _, err := c.RequestCrew(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func apply(t *testing.T, r *repo.Repo, ws []repo.Write) repo.Commit {
	t.Helper()
	c, err := r.Apply(t.Context(), ws)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func put(t testing.TB, collection, rkey string, value []byte) repo.Write {
	t.Helper()
	v, err := repo.RecordFrom(map[string]string{"$type": collection, "v": string(value)})
	if err != nil {
		t.Fatal(err)
	}
	return repo.Write{Action: repo.Put, Collection: collection, RKey: rkey, Record: v}
}

// randomRecords makes writes that fit what it made before.
type randomRecords struct {
	rnd   *rand.Rand
	colls []string
	there map[[2]string]bool
}

func newRandomRecords(rnd *rand.Rand, colls ...string) *randomRecords {
	return &randomRecords{rnd: rnd, colls: colls, there: map[[2]string]bool{}}
}

// writes are n writes of different records: half of new ones, the rest updates and deletes of what is there.
func (s *randomRecords) writes(t testing.TB, n int) (out []repo.Write) {
	t.Helper()
	var old [][2]string
	for k := range s.there {
		old = append(old, k)
	}
	slices.SortFunc(old, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	s.rnd.Shuffle(len(old), func(i, j int) { old[i], old[j] = old[j], old[i] })
	for range n {
		if s.rnd.IntN(2) == 0 || len(old) == 0 {
			k := [2]string{s.colls[s.rnd.IntN(len(s.colls))], fmt.Sprintf("k%x", s.rnd.Uint32())}
			for s.there[k] {
				k[1] += "x"
			}
			s.there[k] = true
			out = append(out, put(t, k[0], k[1], fmt.Append(nil, s.rnd.Uint64())))
			continue
		}
		k := old[0]
		old = old[1:]
		if s.rnd.IntN(2) == 0 {
			delete(s.there, k)
			out = append(out, repo.Write{Action: repo.Delete, Collection: k[0], RKey: k[1]})
			continue
		}
		out = append(out, put(t, k[0], k[1], fmt.Append(nil, s.rnd.Uint64())))
	}
	return out
}

// someCAR is another account's repository.
func someCAR(t *testing.T, collection string, records int) repo.Source {
	t.Helper()
	other := repotest.Open(t, memstore.New(), repo.Options{DID: "did:web:other.example"})
	for at := 0; at < records; {
		var ws []repo.Write
		for ; at < records && len(ws) < 5000; at++ {
			ws = append(ws, put(t, collection, fmt.Sprintf("r%06d", at), fmt.Append(nil, at)))
		}
		apply(t, other, ws)
	}
	var car bytes.Buffer
	if err := repo.ExportCAR(t.Context(), other, &car, nil); err != nil {
		t.Fatal(err)
	}
	return repo.Source{Reader: &car, DID: other.DID(), Key: other.PublicKey()}
}

// TestRelayAsked: a hold that the relay has lost asks it, within seconds, to be followed again. This relay refuses, since it takes no host
// on loopback by name; once it follows again nothing is missing.
func TestRelayAsked(t *testing.T) {
	t.Parallel()
	n := realtest.Network(t, realtest.NetworkOptions{})
	h := newRunningHold(t, n.PLC, n.Account("alice").DID)
	door := realtest.NewFaultProxy(t, "http://127.0.0.1:1")
	h.cfg.Relays = []string{door.URL}
	h.start()
	relay := realtest.Relay(t, realtest.RelayOptions{PLC: n.PLC, Hosts: []string{h.host}})
	door.SetTarget(relay.URL)
	f := &follower{t: t, h: h, relay: relay, events: realtest.Subscribe(t, relay.URL, 0), seen: map[int64]bool{},
		told: map[string]bool{}, kinds: map[string]int{}, ops: map[string]int{}}
	f.everything("followed")

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.server.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	asked := func() int {
		count := 0
		for _, r := range door.Requests() {
			if r == "POST /xrpc/com.atproto.sync.requestCrawl" {
				count++
			}
		}
		return count
	}
	askedBut := func(before int) {
		t.Helper()
		if err := realtest.WaitFor(relayed, func() error {
			if asked() == before {
				return errors.New("not asked")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	askedBut(0) // at the start
	before := asked()
	relay.Lose(t, h.host)
	askedBut(before)
	join(t, n, h, "bob")
	relay.Restart(t)
	f.events = realtest.Subscribe(t, relay.URL, f.last)
	f.everything("followed again")
	f.content("followed again")
}
