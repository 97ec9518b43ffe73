package e2e

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/coder/websocket"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// TestRelayRefuses shows that TestRelayFollowsHold can fail: commits that were made wrong on purpose don't come through, and
// what the relay lets through although it is wrong, it complains of.
func TestRelayRefuses(t *testing.T) {
	t.Parallel()
	n := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	host, frames := handMade(t)
	id, err := identity.CreatePLCIdentity(t.Context(), identity.Config{
		Dir: t.TempDir(), PublicURL: "http://" + host, Method: "plc", PLCURL: n.PLC, TestMode: true,
		Services: identity.HoldServices(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ours := repotest.Open(t, memstore.New(), repo.Options{DID: id.DID.String(), Key: id.Key})
	stolen, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	forged := repotest.Open(t, memstore.New(), repo.Options{DID: id.DID.String(), Key: stolen})

	seq := int64(100)
	var sent [][]byte
	var good []string // what has to come through
	// commit makes one and sends it after change has had its way with it.
	commit := func(r *repo.Repo, name string, writes int, change func(*realtest.Event)) {
		var ws []repo.Write
		for i := range writes {
			ws = append(ws, put(t, "io.atcr.tag", fmt.Sprint(name, i), []byte(name)))
		}
		before := lastEvent(t, r).Seq
		apply(t, r, ws)
		e := lastEvent(t, r)
		if e.Seq == before {
			t.Fatalf("%s: no event", name)
		}
		seq++
		if e.Commit != nil {
			e.Commit.Seq = seq
		} else {
			e.Sync.Seq = seq
		}
		if change != nil {
			change(&e)
		} else {
			good = append(good, name)
		}
		sent = append(sent, frame(t, e))
	}
	commit(ours, "first", 1, nil)
	commit(ours, "second", 1, nil)
	commit(forged, "another-key", 1, func(*realtest.Event) {})
	commit(forged, "another-key-many", 201, func(e *realtest.Event) {
		if e.Sync == nil {
			t.Fatal("201 writes are no #sync")
		}
	})
	commit(ours, "signature", 1, func(e *realtest.Event) {
		at := bytes.Index(e.Commit.Blocks, []byte("csig\x58\x40")) // the commit's field, 64 bytes
		if at < 0 {
			t.Fatal("no signature found")
		}
		e.Commit.Blocks[at+20] ^= 1
	})
	commit(ours, "too-big", 1, func(e *realtest.Event) { e.Commit.TooBig = true })
	commit(ours, "revision", 1, func(e *realtest.Event) { e.Commit.Rev = "3" + strings.Repeat("z", 12) })
	commit(ours, "no-prevData", 1, func(e *realtest.Event) { e.Commit.PrevData = nil })
	commit(ours, "repository", 1, func(e *realtest.Event) { e.Commit.Repo = n.Account("alice").DID })
	commit(ours, "third", 1, nil)
	complains := len(good)
	commit(ours, "wrong-op", 2, func(e *realtest.Event) { e.Commit.Ops = e.Commit.Ops[:1] }) // lets through
	commit(ours, "last", 1, nil)
	frames <- sent

	relay := realtest.Relay(t, realtest.RelayOptions{PLC: n.PLC, Hosts: []string{host}})
	events := realtest.Subscribe(t, relay.URL, 0)
	want := slices.Insert(slices.Clone(good), complains, "wrong-op")
	for _, name := range want {
		e, err := events.Next(relayed)
		if err != nil {
			t.Fatal(err, relay.Complaints())
		}
		if e.Kind != "#commit" || len(e.Commit.Ops) != 1 || !strings.HasPrefix(e.Commit.Ops[0].Path, "io.atcr.tag/"+name) {
			t.Fatalf("%s came through as %s, wanted %s", e.Kind, unnumbered(t, e), name)
		}
	}
	complaints := fmt.Sprintf("%+v", relay.Complaints())
	for _, part := range []string{"failed to invert commit MST", "signature", "tooBig", "mismatched inner commit rev",
		"missing prevData", "from a different host"} {
		if !strings.Contains(complaints, part) {
			t.Errorf("the relay does not complain of %q: %s", part, complaints)
		}
	}
}

// handMade is a server, at localhost:PORT, that sends the given frames to its first subscriber, and then nothing.
func handMade(t *testing.T) (host string, frames chan<- [][]byte) {
	t.Helper()
	queue, end := make(chan [][]byte, 1), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer ws.CloseNow() //nolint:errcheck // it may be closed
		for _, f := range <-queue {
			if err := ws.Write(r.Context(), websocket.MessageBinary, f); err != nil {
				return
			}
		}
		<-end
	}))
	t.Cleanup(func() { close(end); server.Close() })
	return strings.Replace(strings.TrimPrefix(server.URL, "http://"), "127.0.0.1", "localhost", 1), queue
}

func lastEvent(t *testing.T, r *repo.Repo) (last realtest.Event) {
	t.Helper()
	for e, err := range r.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if last, err = realtest.ParseEvent(e.Body); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

// frame is a #commit or #sync as a server sends it.
func frame(t *testing.T, e realtest.Event) []byte {
	t.Helper()
	kind, body := e.Kind, any(e.Commit)
	if e.Sync != nil {
		body = e.Sync
	}
	var b bytes.Buffer
	b.WriteString("\xa2at" + string(rune(0x60+len(kind))) + kind + "bop\x01") // {t: kind, op: 1}
	if err := body.(interface{ MarshalCBOR(w io.Writer) error }).MarshalCBOR(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
