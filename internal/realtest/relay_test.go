package realtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestRelay: commits of a reference PDS come out of the relay, also after it was restarted and had lost the PDS; what is
// written meanwhile is not lost.
func TestRelay(t *testing.T) {
	n := Network(t, NetworkOptions{Accounts: []string{"alice"}})
	alice := n.Account("alice")
	host := strings.TrimPrefix(alice.PDS, "http://")
	relay := Relay(t, RelayOptions{PLC: n.PLC, Hosts: []string{host}})
	session := n.Session(t, "alice")
	var last int64
	for i, before := range []func(){
		func() {},
		func() { relay.Restart(t) },
		func() { relay.Lose(t, host); relay.Restart(t) },
	} {
		key := fmt.Sprint("k", i)
		before()
		in := map[string]any{"repo": alice.DID, "collection": "io.atcr.tag", "rkey": key,
			"record": map[string]any{"$type": "io.atcr.tag", "tag": key}}
		if err := n.Call(t.Context(), http.MethodPost, alice.PDS, "com.atproto.repo.putRecord", session, in, nil); err != nil {
			t.Fatal(err)
		}
		events := Subscribe(t, relay.URL, last)
		for {
			e, err := events.Next(time.Minute)
			if err != nil {
				t.Fatal(err, relay.Complaints())
			}
			last = e.Seq
			if e.Kind == "#commit" && e.DID == alice.DID && len(e.Commit.Ops) == 1 && e.Commit.Ops[0].Path == "io.atcr.tag/"+key {
				break
			}
		}
		if err := events.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, c := range relay.Complaints() {
		if c.Message != "dropping commit with old rev" { // it lost its cursor with the PDS
			t.Errorf("the relay complains: %+v", c)
		}
	}
	e, err := Subscribe(t, alice.PDS, 1<<50).Next(time.Minute)
	if err != nil || e.Kind != "error" || e.Error != "FutureCursor" {
		t.Errorf("a cursor of the future: %+v, %v", e, err)
	}
}
