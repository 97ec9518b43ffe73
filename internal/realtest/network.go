package realtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// NetworkOptions says what network to start. The zero value is one PDS with the
// accounts alice and bob.
type NetworkOptions struct {
	PDSes    int      // how many; 0 is 1
	Accounts []string // names, dealt round-robin over the PDSes; nil is alice and bob
	Proxied  bool     // a FaultProxy stands at each PDS's public address

	// On is the host that the network is started on, with one PDS whose public address is https://Hostname; the directory's is
	// https://PLCName. Both names must lead to On (Hosts.DNS), where TLS passes them on to PDSPort and PLCPort.
	On                *Host
	Hostname, PLCName string
}

// Ports of a network that is started on a Host.
const (
	PDSPort = 2583
	PLCPort = 2582
)

// A Net is a PLC directory and reference PDSes. DID documents, tokens and OAuth
// name a PDS by its public address PDS[i], http://localhost:PORT.
type Net struct {
	PLC           string        // URL of the directory
	PDS           []string      // public URLs
	PDSLocal      []string      // the PDSes themselves; differs from PDS when Proxied
	Proxy         []*FaultProxy // one for each PDS when Proxied
	AdminPassword string        // for com.atproto.admin.*, user admin
	Accounts      map[string]Account

	stack  *atprotoStack
	id     int          // of the network in the stack
	client *http.Client // nil: http.DefaultClient
}

// An Account is one of a Net's.
type Account struct {
	DID      string `json:"did"`
	Handle   string `json:"handle"`
	Password string `json:"password"` // of the account; see Net.AppPassword
	PDS      string `json:"pds"`      // public URL
	Index    int    `json:"index"`    // of the PDS
}

// Network starts a network and stops it when the test ends. The directory is in
// memory, the PDSes keep their state in t.TempDir for as long as the test runs.
// All networks of a test process run in one Node process. Tests may start
// networks at the same time.
func Network(t testing.TB, o NetworkOptions) *Net {
	t.Helper()
	Need(t, tools.ATProto)
	command := stackCommand{Do: "open", State: t.TempDir(), PDS: max(o.PDSes, 1), Accounts: o.Accounts, Hostname: o.Hostname}
	if o.Accounts == nil {
		command.Accounts = []string{"alice", "bob"}
	}
	n := &Net{}
	if o.Proxied {
		for range command.PDS {
			p := NewFaultProxy(t, "")
			n.Proxy = append(n.Proxy, p)
			command.PublicPorts = append(command.PublicPorts, p.Port())
		}
	}
	if o.On != nil {
		command.PDSPort, command.PLCPort, n.client = PDSPort, PLCPort, o.On.Client(t)
	}
	err := n.open(t, o.On, command)
	if err != nil {
		t.Logf("realtest: the PDS did not start, trying again: %v", err)
		command.State = t.TempDir()
		if err = n.open(t, o.On, command); err != nil {
			t.Fatalf("realtest: %v", err)
		}
	}
	if o.On != nil {
		n.PLC = "https://" + o.PLCName
	}
	for i, p := range n.Proxy {
		p.SetTarget(n.PDSLocal[i])
	}
	return n
}

// open starts the network in the shared stack, or in one of its own on a host.
func (n *Net) open(t testing.TB, on *Host, command stackCommand) (err error) {
	if on != nil {
		if n.stack, err = startStack(on); err != nil {
			return err
		}
		t.Cleanup(func() { _ = n.stack.process.Stop() })
	} else if n.stack, err = sharedStack(n.stack); err != nil {
		return err
	}
	opened, err := n.stack.do(command)
	if err != nil {
		if on != nil {
			_ = n.stack.process.Kill() // its ports are wanted again
		}
		return err
	}
	stack := n.stack
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output of the atproto stack, which tests share (last %d lines):\n%s", keepLines, stack.process.Log())
		}
		if _, err := stack.do(stackCommand{Do: "close", Network: opened.ID}); err != nil {
			t.Logf("realtest: close the network: %v", err)
		}
	})
	n.id = opened.ID
	n.PLC, n.PDS, n.PDSLocal = opened.PLC, opened.PDS, opened.PDSLocal
	n.AdminPassword, n.Accounts = opened.AdminPassword, opened.Accounts
	return nil
}

// Account is the account of that name; an unknown one panics with a clear index
// error in the test.
func (n *Net) Account(name string) Account { return n.Accounts[name] }

// StopPDS takes PDS i down: connections to PDSLocal[i] are refused. Its state
// stays for StartPDS.
func (n *Net) StopPDS(t testing.TB, i int) { t.Helper(); n.command(t, "stop", i) }

// StartPDS brings a stopped PDS back on the same port and state.
func (n *Net) StartPDS(t testing.TB, i int) { t.Helper(); n.command(t, "start", i) }

func (n *Net) command(t testing.TB, verb string, i int) {
	t.Helper()
	if _, err := n.stack.do(stackCommand{Do: verb, Network: n.id, PDS: i}); err != nil {
		t.Fatalf("realtest: %s PDS %d: %v", verb, i, err)
	}
}

// AppPassword makes an app password for the account.
func (n *Net) AppPassword(t testing.TB, name string) string {
	t.Helper()
	a := n.Account(name)
	var made struct {
		Password string `json:"password"`
	}
	in := map[string]any{"name": fmt.Sprintf("realtest-%d", time.Now().UnixNano())}
	err := n.Call(t.Context(), http.MethodPost, a.PDS, "com.atproto.server.createAppPassword", n.Session(t, name), in, &made)
	if err != nil {
		t.Fatalf("realtest: app password for %s: %v", name, err)
	}
	return made.Password
}

// Session is an access token of the account with full rights.
func (n *Net) Session(t testing.TB, name string) string {
	t.Helper()
	a := n.Account(name)
	var session struct {
		AccessJwt string `json:"accessJwt"`
	}
	in := map[string]any{"identifier": a.DID, "password": a.Password}
	if err := n.Call(t.Context(), http.MethodPost, a.PDS, "com.atproto.server.createSession", "", in, &session); err != nil {
		t.Fatalf("realtest: session for %s: %v", name, err)
	}
	return session.AccessJwt
}

// ServiceAuth is a service token of the account for aud and lxm.
func (n *Net) ServiceAuth(t testing.TB, name, aud, lxm string) string {
	t.Helper()
	var out struct {
		Token string `json:"token"`
	}
	method := "com.atproto.server.getServiceAuth?aud=" + url.QueryEscape(aud) + "&lxm=" + url.QueryEscape(lxm)
	if err := n.Call(t.Context(), http.MethodGet, n.Account(name).PDS, method, n.Session(t, name), nil, &out); err != nil {
		t.Fatalf("realtest: service token for %s: %v", name, err)
	}
	return out.Token
}

// A Record is one of a repository, as listRecords gives it.
type Record struct {
	URI   string         `json:"uri"`
	CID   string         `json:"cid"`
	Value map[string]any `json:"value"`
}

// Records lists a collection of the account's repository through the PDS's own
// API, all pages.
func (n *Net) Records(t testing.TB, name, collection string) []Record {
	t.Helper()
	a := n.Account(name)
	records, err := listRecords(t.Context(), n.client, a.PDS, a.DID, collection)
	if err != nil {
		t.Fatalf("realtest: %v", err)
	}
	return records
}

// ListRecords lists a collection of did's repository at any PDS or hold.
func ListRecords(ctx context.Context, server, did, collection string) ([]Record, error) {
	return listRecords(ctx, nil, server, did, collection)
}

func listRecords(ctx context.Context, client *http.Client, server, did, collection string) ([]Record, error) {
	var all []Record
	cursor := ""
	for {
		var page struct {
			Records []Record `json:"records"`
			Cursor  string   `json:"cursor"`
		}
		method := "com.atproto.repo.listRecords?limit=100&repo=" + url.QueryEscape(did) +
			"&collection=" + url.QueryEscape(collection) + "&cursor=" + url.QueryEscape(cursor)
		if err := call(ctx, client, http.MethodGet, server, method, "", nil, &page); err != nil {
			return nil, fmt.Errorf("list %s of %s: %w", collection, did, err)
		}
		all = append(all, page.Records...)
		if page.Cursor == "" || len(page.Records) == 0 {
			return all, nil
		}
		cursor = page.Cursor
	}
}

// Call does one XRPC call: method may carry a query; in and out are JSON and may
// be nil. A status other than 200 is an error with the body in it.
func (n *Net) Call(ctx context.Context, httpMethod, server, method, token string, in, out any) error {
	return call(ctx, n.client, httpMethod, server, method, token, in, out)
}

func call(ctx context.Context, client *http.Client, httpMethod, server, method, token string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, httpMethod, server+"/xrpc/"+method, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", method, resp.Status, raw)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(raw, out)
}
