// Package online looks at what a configuration names, for `config check --online`: folders, ports, the directory, PDSes, holds.
package online

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// wait bounds each question.
const wait = 10 * time.Second

// Finding is what was seen behind one key of a configuration.
type Finding struct {
	Key   string `json:"key"`
	Fault bool   `json:"fault"` // the service would not work as configured
	Text  string `json:"text"`
}

// Options say how the network is asked: as the service would.
type Options struct {
	Program           string
	PLCURL            string
	HandleResolverURL string
	TestMode          bool
	Allow             []netip.Prefix
}

// Checker collects findings. Close it.
type Checker struct {
	Findings []Finding

	opts    Options
	http    *http.Client
	dir     *identity.Resolver
	running bool // the service has its folder now
}

// New returns a checker that found nothing yet.
func New(o Options) *Checker {
	client := httpx.NewClient(httpx.ClientOptions{Guard: httpx.Guard{Loopback: o.TestMode, Allow: o.Allow}, Timeout: wait,
		UserAgent: o.Program})
	return &Checker{opts: o, http: client, dir: identity.NewResolver(identity.ResolverOptions{
		HTTP: client, PLCURL: o.PLCURL, HandleResolverURL: o.HandleResolverURL, TestMode: o.TestMode, Log: slog.New(slog.DiscardHandler),
	})}
}

// Close closes connections.
func (c *Checker) Close() { c.http.CloseIdleConnections() }

// Faults is how many findings are one.
func (c *Checker) Faults() (n int) {
	for _, f := range c.Findings {
		if f.Fault {
			n++
		}
	}
	return n
}

// Print prints the findings, a line each.
func (c *Checker) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range c.Findings {
		what := "ok"
		if f.Fault {
			what = "FAULT"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", what, f.Key, f.Text)
	}
	return t.Flush()
}

func (c *Checker) good(key, format string, args ...any) {
	c.Findings = append(c.Findings, Finding{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (c *Checker) fault(key, format string, args ...any) {
	c.Findings = append(c.Findings, Finding{Key: key, Fault: true, Text: fmt.Sprintf(format, args...)})
}

// DataFolder is [Checker.Folder] for the one that a running service locks: that it does is no fault.
func (c *Checker) DataFolder(key, dir string) {
	if _, err := os.Stat(filepath.Join(dir, durable.LockName)); err == nil {
		lock, err := durable.LockDir(dir)
		var busy *durable.LockedError
		switch {
		case errors.As(err, &busy):
			c.running = true
			c.good(key, "%s is in use by this service (process %d)", dir, busy.PID)
			return
		case err == nil:
			defer lock.Close() //nolint:errcheck // nothing was written
		}
	}
	c.Folder(key, dir)
}

// Folder makes sure that a folder can be written, or made where it is missing.
func (c *Checker) Folder(key, dir string) {
	at, err := filepath.Abs(dir)
	if err != nil {
		c.fault(key, "%v", err)
		return
	}
	for {
		st, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && filepath.Dir(at) != at:
			at = filepath.Dir(at)
			continue
		case err != nil:
			c.fault(key, "%s can't be used: %v", dir, err)
			return
		case !st.IsDir():
			c.fault(key, "%s can't be used: %s is no folder", dir, at)
			return
		}
		break
	}
	probe, err := os.MkdirTemp(at, durable.TempPrefix+"check-*")
	if err != nil {
		c.fault(key, "%s can't be written by user %d: %v", dir, os.Getuid(), err)
		return
	}
	if err := os.Remove(probe); err != nil {
		c.fault(key, "%s: %v", dir, err)
		return
	}
	if abs, _ := filepath.Abs(dir); abs != at {
		c.good(key, "%s is made at the first start, in %s", dir, at)
		return
	}
	c.good(key, "%s can be written", dir)
}

// Listen makes sure that an address is free. One that the running service has is no fault.
func (c *Checker) Listen(ctx context.Context, key, addr string) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err == nil {
		_ = ln.Close()
		c.good(key, "%s is free", addr)
		return
	}
	if c.running && c.healthy(ctx, addr) {
		c.good(key, "%s is in use by this service", addr)
		return
	}
	c.fault(key, "%s can't be listened on: %v: stop what is there, or name another port", addr, plain(err))
}

// healthy reports whether a service of ours answers at an address of this machine.
func (c *Checker) healthy(ctx context.Context, addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	client := httpx.NewClient(httpx.ClientOptions{Guard: httpx.Guard{Loopback: true,
		Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}, Timeout: wait})
	defer client.CloseIdleConnections()
	var out struct{ Status string }
	return get(ctx, client, "http://"+net.JoinHostPort(host, port)+"/health", &out) == nil && out.Status == "ok"
}

// Server asks a server of the AT Protocol for its health: the directory, a PDS.
func (c *Checker) Server(ctx context.Context, key, address string) {
	if err := c.alive(ctx, address); err != nil {
		c.fault(key, "%s", err)
		return
	}
	c.good(key, "%s answers", shown(address))
}

// alive takes any answer that is no failure of the server: not all have a health page.
func (c *Checker) alive(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(address, "/")+"/xrpc/_health", nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%s does not answer: %w", shown(address), plain(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 500 {
		return fmt.Errorf("%s answers %s", shown(address), resp.Status)
	}
	return nil
}

// Account looks up a DID or handle, and asks its PDS.
func (c *Checker) Account(ctx context.Context, key, name string) {
	ctx, cancel := context.WithTimeout(ctx, 2*wait)
	defer cancel()
	acc, err := c.lookup(ctx, name)
	if err != nil {
		c.fault(key, "%s can't be looked up: %v", name, plain(err))
		return
	}
	who := acc.DID.String()
	if acc.Handle != "" && !acc.Handle.IsInvalidHandle() {
		who = fmt.Sprintf("%s (%s)", acc.Handle, acc.DID)
	}
	pds := acc.PDSEndpoint()
	if pds == "" {
		c.fault(key, "%s: its document names no PDS", who)
		return
	}
	if err := c.alive(ctx, pds); err != nil {
		c.fault(key, "%s: its PDS %s", who, err)
		return
	}
	c.good(key, "%s, whose PDS %s answers", who, pds)
}

func (c *Checker) lookup(ctx context.Context, name string) (*identity.Account, error) {
	if did, ok := strings.CutPrefix(name, "did:"); ok {
		id, err := syntax.ParseDID("did:" + did)
		if err != nil {
			return nil, err
		}
		return c.dir.LookupDID(ctx, id)
	}
	return c.dir.LookupHandle(ctx, syntax.Handle(strings.TrimPrefix(name, "@")).Normalize())
}

// Hold looks up a hold, and asks it who it is.
func (c *Checker) Hold(ctx context.Context, key, did string) {
	ctx, cancel := context.WithTimeout(ctx, 2*wait)
	defer cancel()
	acc, err := c.lookup(ctx, did)
	if err != nil {
		c.fault(key, "%s can't be looked up: %v", did, plain(err))
		return
	}
	var at string
	for _, id := range []string{"atcr_hold", "atproto_pds"} {
		if at = acc.GetServiceEndpoint(id); at != "" {
			break
		}
	}
	if at == "" {
		c.fault(key, "%s: its document names no hold: is it the DID of an account?", did)
		return
	}
	var out struct{ DID string }
	if err := get(ctx, c.http, strings.TrimRight(at, "/")+"/xrpc/com.atproto.server.describeServer", &out); err != nil {
		c.fault(key, "%s at %s does not answer as a hold: %v", did, at, plain(err))
		return
	}
	c.good(key, "%s answers at %s", did, at)
}

func get(ctx context.Context, client *http.Client, address string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := httpx.ReadLimited(resp, 64<<10)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return json.Unmarshal(body, out)
}

// plain is an error without the address, which stands before it.
func plain(err error) error {
	var asked *url.Error
	var listened *net.OpError
	switch {
	case errors.As(err, &asked):
		return asked.Err
	case errors.As(err, &listened) && listened.Op == "listen":
		return listened.Err
	}
	return err
}

// shown is an address without a password.
func shown(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the address"
	}
	return u.Redacted()
}

// Try notes what came of something else that was tried.
func (c *Checker) Try(key, good string, err error) {
	if err != nil {
		c.fault(key, "%v", err)
		return
	}
	c.good(key, "%s", good)
}
