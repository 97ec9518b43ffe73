package realtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
	"github.com/atcr-dev/atcr/sqldb/sqlite"
)

const relayLimit = 30 * time.Second // to start or stop

// RelayOptions says whom a relay follows.
type RelayOptions struct {
	PLC string // URL of the directory
	// Hosts are followed from their oldest event on: "localhost:PORT", over plain HTTP. The relay lets no other address
	// of this machine through; accounts that it takes must name the same host in their DID document.
	Hosts []string
	// Env is added to the relay's environment.
	Env []string
}

// A RelayServer is indigo's relay, with its own checks on: what comes out of its
// subscribeRepos has a good signature, a revision that rises, and the form of
// sync 1.1. It says in its log, and passes on, what it could not invert: see
// Complaints.
type RelayServer struct {
	URL string // http://127.0.0.1:PORT

	command Command
	process *Process

	mu         sync.Mutex
	complaints []RelayComplaint
}

// A RelayComplaint is a line of the relay's log, of level WARN or ERROR, that is
// about what it received.
type RelayComplaint struct {
	Message string `json:"msg"`
	Err     string `json:"err"`
	Problem string `json:"problem"`
	Name    string `json:"name"` // of an error frame
	Host    string `json:"host"`
	DID     string `json:"did"`
	Rev     string `json:"rev"`
	Seq     int64  `json:"seq"`
}

// Relay starts a relay and stops it when the test ends.
//
// The relay refuses to be told of a host on loopback, but subscribes to what is
// in its database: so it makes its tables, is stopped, given the hosts, and
// started.
func Relay(t testing.TB, o RelayOptions) *RelayServer {
	t.Helper()
	Need(t, tools.Relay)
	dir, addr := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	r := &RelayServer{URL: "http://" + addr}
	r.command = Command{
		Name: "relay", Path: tools.Path(tools.Relay), Dir: dir, Each: r.line,
		Args: []string{
			"serve", "--bind", addr, "--metrics-listen", "127.0.0.1:0", "--db-url", "sqlite://relay.sqlite", "--persist-dir", "persist",
			"--allow-insecure-hosts", "--ident-cache-size", "1000", "--replay-window", "1h",
		},
		Env: append([]string{"RELAY_ADMIN_PASSWORD=" + relayPassword, "RELAY_PLC_HOST=" + o.PLC}, o.Env...),
	}
	r.start(t)
	r.Stop(t)
	r.follow(t, filepath.Join(dir, "relay.sqlite"), o.Hosts)
	r.start(t)
	return r
}

const relayPassword = "relay-admin"

func (r *RelayServer) start(t testing.TB) {
	t.Helper()
	r.process = Start(t, r.command)
	if err := r.process.WaitListening(strings.TrimPrefix(r.URL, "http://"), relayLimit); err != nil {
		t.Fatalf("realtest: %v", err)
	}
}

// follow puts hosts into the database of a stopped relay.
func (r *RelayServer) follow(t testing.TB, file string, hosts []string) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), file)
	if err != nil {
		t.Fatalf("realtest: %v", err)
	}
	defer db.Close()
	for _, h := range hosts {
		_, err := db.Write().ExecContext(t.Context(), `
			insert into host (created_at, updated_at, hostname, no_ssl, account_limit, trusted, status, last_seq)
			values (datetime('now'), datetime('now'), ?, 1, 100000, 1, 'active', 1)`, h)
		if err != nil {
			t.Fatalf("realtest: tell the relay of %s: %v", h, err)
		}
	}
}

// Stop ends the relay politely; its state, cursors among it, stays for Restart.
func (r *RelayServer) Stop(t testing.TB) {
	t.Helper()
	_ = r.process.Stop() // it exits with whatever
}

// Restart starts a relay again, on the same address and state.
func (r *RelayServer) Restart(t testing.TB) {
	t.Helper()
	r.Stop(t)
	r.start(t)
}

// Lose makes the relay drop its subscription to a host until it is restarted or
// asked to crawl. It may forget how far it was, and then drops some commits as old.
func (r *RelayServer) Lose(t testing.TB, host string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+"/admin/subs/killUpstream?host="+host, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", relayPassword)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("realtest: the relay answers %s for %s", resp.Status, host)
	}
}

// Complaints are all so far.
func (r *RelayServer) Complaints() []RelayComplaint {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]RelayComplaint(nil), r.complaints...)
}

// line keeps complaints. What is about the relay's own consumers, or connections alone, is none.
func (r *RelayServer) line(line string) {
	var l struct {
		Level string `json:"level"`
		RelayComplaint
	}
	if json.Unmarshal([]byte(line), &l) != nil || l.Level != "WARN" && l.Level != "ERROR" {
		return
	}
	if l.DID == "" && l.Host == "" {
		return
	}
	switch l.Message {
	case "dialing failed", "host connection failed", "failed to persist cursor":
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.complaints = append(r.complaints, l.RelayComplaint)
}
