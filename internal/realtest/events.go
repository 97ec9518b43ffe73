package realtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/coder/websocket"
	cbg "github.com/whyrusleeping/cbor-gen"
)

const maxEvent = 5_000_000 // bytes, as the relay reads them

// An Event is one message of com.atproto.sync.subscribeRepos, read by indigo's
// types. One of the pointers is set, by Kind.
type Event struct {
	Kind string // #commit, #sync, #identity, #account, #info; "error"
	Seq  int64
	DID  string
	Raw  []byte // the whole frame

	Commit   *comatproto.SyncSubscribeRepos_Commit
	Sync     *comatproto.SyncSubscribeRepos_Sync
	Identity *comatproto.SyncSubscribeRepos_Identity
	Account  *comatproto.SyncSubscribeRepos_Account
	Info     *comatproto.SyncSubscribeRepos_Info
	Error    string // name of an error
}

// A Subscription reads the events of a server, ours or not.
type Subscription struct {
	ws *websocket.Conn
}

// Subscribe subscribes at a base URL, http://HOST:PORT, until the test ends.
// With cursor it begins after that event; a negative one is none: what happens
// from now on.
func Subscribe(t testing.TB, server string, cursor int64) *Subscription {
	t.Helper()
	url := "ws" + strings.TrimPrefix(server, "http") + "/xrpc/com.atproto.sync.subscribeRepos"
	if cursor >= 0 {
		url += fmt.Sprintf("?cursor=%d", cursor)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		t.Fatalf("realtest: subscribe at %s: %v", server, err)
	}
	ws.SetReadLimit(maxEvent)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return &Subscription{ws: ws}
}

// Next waits for the next event. After an error the subscription is of no more
// use.
func (s *Subscription) Next(limit time.Duration) (Event, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, raw, err := s.ws.Read(ctx)
	if err != nil {
		return Event{}, fmt.Errorf("no event within %s: %w", limit, err)
	}
	return ParseEvent(raw)
}

// Close ends the subscription.
func (s *Subscription) Close() error { return s.ws.Close(websocket.StatusNormalClosure, "") }

// ParseEvent reads one frame: header and body, with nothing after them.
func ParseEvent(raw []byte) (Event, error) {
	r := bytes.NewReader(raw)
	op, kind, err := eventHeader(r)
	if err != nil {
		return Event{}, fmt.Errorf("header of an event: %w", err)
	}
	e := Event{Kind: kind, Raw: raw}
	switch {
	case op == -1:
		e.Kind = "error"
		e.Error, err = errorName(r)
	case kind == "#commit":
		e.Commit = &comatproto.SyncSubscribeRepos_Commit{}
		err = e.Commit.UnmarshalCBOR(r)
		e.Seq, e.DID = e.Commit.Seq, e.Commit.Repo
	case kind == "#sync":
		e.Sync = &comatproto.SyncSubscribeRepos_Sync{}
		err = e.Sync.UnmarshalCBOR(r)
		e.Seq, e.DID = e.Sync.Seq, e.Sync.Did
	case kind == "#identity":
		e.Identity = &comatproto.SyncSubscribeRepos_Identity{}
		err = e.Identity.UnmarshalCBOR(r)
		e.Seq, e.DID = e.Identity.Seq, e.Identity.Did
	case kind == "#account":
		e.Account = &comatproto.SyncSubscribeRepos_Account{}
		err = e.Account.UnmarshalCBOR(r)
		e.Seq, e.DID = e.Account.Seq, e.Account.Did
	case kind == "#info":
		e.Info = &comatproto.SyncSubscribeRepos_Info{}
		err = e.Info.UnmarshalCBOR(r)
	default:
		return Event{}, fmt.Errorf("event of unknown kind %q, op %d", kind, op)
	}
	if err != nil {
		return Event{}, fmt.Errorf("event %s: %w", e.Kind, err)
	}
	if r.Len() > 0 {
		return Event{}, fmt.Errorf("event %s: %d bytes after its body", e.Kind, r.Len())
	}
	return e, nil
}

// eventHeader reads the map {op, t}.
func eventHeader(r io.Reader) (op int64, kind string, err error) {
	err = cborMap(r, func(key string, cr *cbg.CborReader) error {
		var err error
		switch key {
		case "op":
			var n cbg.CborInt
			err = n.UnmarshalCBOR(cr)
			op = int64(n)
		case "t":
			kind, err = cbg.ReadStringWithMax(cr, 100)
		default:
			err = fmt.Errorf("unknown field %q", key)
		}
		return err
	})
	return op, kind, err
}

// errorName reads the body of an error frame.
func errorName(r io.Reader) (name string, err error) {
	err = cborMap(r, func(key string, cr *cbg.CborReader) error {
		text, err := cbg.ReadStringWithMax(cr, 10_000)
		if key == "error" {
			name = text
		}
		return err
	})
	return name, err
}

func cborMap(r io.Reader, field func(key string, cr *cbg.CborReader) error) error {
	cr := cbg.NewCborReader(r)
	major, n, err := cr.ReadHeader()
	if err != nil {
		return err
	}
	if major != cbg.MajMap || n > 10 {
		return fmt.Errorf("no map of few fields")
	}
	for range n {
		key, err := cbg.ReadStringWithMax(cr, 100)
		if err != nil {
			return err
		}
		if err := field(key, cr); err != nil {
			return err
		}
	}
	return nil
}
