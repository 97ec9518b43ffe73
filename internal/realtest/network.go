package realtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// A PDS starts in a second, and in ten where many tests share two cores. Once in
// some dozens of starts one hangs, so it is killed after startLimit and tried once
// more. Before that, reading its thousand files is a matter of the machine alone.
const (
	loadLimit  = 2 * time.Minute
	startLimit = 30 * time.Second
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

	process *Process
	client  *http.Client // nil: http.DefaultClient
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
func Network(t testing.TB, o NetworkOptions) *Net {
	t.Helper()
	Need(t, tools.ATProto)
	count := max(o.PDSes, 1)
	var proxies []*FaultProxy
	var ports []string
	if o.Proxied {
		for range count {
			p := NewFaultProxy(t, "")
			proxies = append(proxies, p)
			ports = append(ports, strconv.Itoa(p.Port()))
		}
	}
	n, err := startNetwork(t, o, count, ports)
	if err != nil {
		t.Logf("realtest: the PDS did not start, trying again: %v", err)
		if n, err = startNetwork(t, o, count, ports); err != nil {
			t.Fatalf("realtest: %v", err)
		}
	}
	n.Proxy = proxies
	for i, p := range proxies {
		p.SetTarget(n.PDSLocal[i])
	}
	return n
}

func startNetwork(t testing.TB, o NetworkOptions, count int, ports []string) (*Net, error) {
	command, err := tools.StackCommand()
	if err != nil {
		return nil, err
	}
	names := o.Accounts
	if names == nil {
		names = []string{"alice", "bob"}
	}
	args := append(command[1:], "--state", t.TempDir(), "--pds", strconv.Itoa(count),
		"--accounts", strings.Join(names, ","), "--public-ports", strings.Join(ports, ","))
	c := Command{Name: "atproto stack", Path: command[0], Args: args, Env: []string{"LOG_ENABLED=false", "NODE_COMPILE_CACHE=" + filepath.Join(tools.Dir(), "atproto", "compiled")}}
	n := &Net{}
	if o.On != nil {
		c.Args = append(c.Args, "--hostname", o.Hostname, "--pds-port", strconv.Itoa(PDSPort), "--plc-port", strconv.Itoa(PLCPort))
		c, n.client = o.On.command(c), o.On.Client(t)
	}
	p := Start(t, c)
	n.process = p
	_, err = n.answer(loadLimit, "loaded")
	var line string
	if err == nil {
		line, err = n.answer(startLimit, "plc")
	}
	if err != nil {
		_ = p.Kill()
		return nil, err
	}
	var ready struct {
		PLC           string
		PDS, PDSLocal []string
		AdminPassword string
		Accounts      map[string]Account
	}
	if err := json.Unmarshal([]byte(line), &ready); err != nil {
		return nil, err
	}
	n.PLC, n.PDS, n.PDSLocal = ready.PLC, ready.PDS, ready.PDSLocal
	n.AdminPassword, n.Accounts = ready.AdminPassword, ready.Accounts
	if o.On != nil {
		n.PLC = "https://" + o.PLCName
	}
	return n, nil
}

// answer is the script's next line that is an object with the key or "error".
func (n *Net) answer(limit time.Duration, key string) (string, error) {
	deadline := time.Now().Add(limit)
	for {
		line, err := n.process.Line(time.Until(deadline))
		if err != nil {
			return "", err
		}
		var object map[string]json.RawMessage
		if json.Unmarshal([]byte(line), &object) != nil {
			continue
		}
		if e, ok := object["error"]; ok && object["level"] == nil {
			return "", fmt.Errorf("atproto stack: %s", e)
		}
		if _, ok := object[key]; ok {
			return line, nil
		}
	}
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
	err := n.process.Send(fmt.Sprintf("%s %d", verb, i))
	if err == nil {
		_, err = n.answer(startLimit, "done")
	}
	if err != nil {
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
	if err := n.Call(t.Context(), http.MethodPost, a.PDS, "com.atproto.server.createAppPassword", n.Session(t, name), in, &made); err != nil {
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
		method := "com.atproto.repo.listRecords?limit=100&repo=" + url.QueryEscape(did) + "&collection=" + url.QueryEscape(collection) + "&cursor=" + url.QueryEscape(cursor)
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
