package realtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/internal/realtest/tools"
)

// Hosts are several machines on one network, made of this machine's namespaces: each has an address of 10.77.0.0/24, every port free, and
// nothing beside it but the others. Names come from a DNS of their own (see DNS), TLS from a private authority (CA; see Host.TLS).
// Nothing of this machine's own network changes, and several test processes may have Hosts at once.
type Hosts struct {
	CA string // file of the authority's certificate, PEM; there after the first TLS

	dir    string
	prefix string // of namespaces
	hub    *Host  // where DNS is, and the wires meet
	byName map[string]*Host
	dns    *Process
}

// A Host is one of them.
type Host struct {
	Name string
	IP   string

	hosts *Hosts
	ns    string
}

// hostsPrefix begins the name of every namespace that a test makes; the process's id follows.
const hostsPrefix = "atcr-test-"

const dnsAddr = "10.77.0.1"

// NewHosts makes the named hosts, and takes them away when the test ends. Needs root.
func NewHosts(t testing.TB, names ...string) *Hosts {
	t.Helper()
	Need(t, tools.Namespaces, tools.Caddy)
	if os.Getuid() != 0 {
		t.Skip("realtest: skipped: hosts made of namespaces need root")
	}
	removeLeftHosts()
	h := &Hosts{dir: t.TempDir(), byName: map[string]*Host{}}
	h.CA = filepath.Join(h.dir, "caddy", "pki", "authorities", "local", "root.crt")
	h.prefix = fmt.Sprintf("%s%d-%d-", hostsPrefix, os.Getpid(), time.Now().UnixNano()%1e9)
	h.hub = h.add(t, "hub", dnsAddr)
	h.ip(t, "-n", h.hub.ns, "link", "add", "br0", "type", "bridge")
	h.ip(t, "-n", h.hub.ns, "addr", "add", dnsAddr+"/24", "dev", "br0")
	h.ip(t, "-n", h.hub.ns, "link", "set", "br0", "up")
	for i, name := range names {
		host := h.add(t, name, fmt.Sprintf("10.77.0.%d", i+2))
		wire := fmt.Sprintf("wire%d", i)
		h.ip(t, "link", "add", wire, "netns", h.hub.ns, "type", "veth", "peer", "name", "eth0", "netns", host.ns)
		h.ip(t, "-n", h.hub.ns, "link", "set", wire, "master", "br0", "up")
		h.ip(t, "-n", host.ns, "addr", "add", host.IP+"/24", "dev", "eth0")
		h.ip(t, "-n", host.ns, "link", "set", "eth0", "up")
	}
	return h
}

func (h *Hosts) add(t testing.TB, name, ip string) *Host {
	t.Helper()
	host := &Host{Name: name, IP: ip, hosts: h, ns: h.prefix + name}
	h.byName[name] = host
	t.Cleanup(func() { removeHost(host.ns) }) // before it exists, so that half a one goes, too
	h.ip(t, "netns", "add", host.ns)
	h.ip(t, "-n", host.ns, "link", "set", "lo", "up")
	dir := filepath.Join("/etc/netns", host.ns)
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver "+dnsAddr+"\n"), 0o644)
	}
	if err != nil {
		t.Fatalf("realtest: host %s: %v", name, err)
	}
	return host
}

func (h *Hosts) ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("realtest: ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func removeHost(ns string) {
	_ = exec.Command("ip", "netns", "del", ns).Run()
	_ = os.RemoveAll(filepath.Join("/etc/netns", ns))
	_ = os.Remove("/etc/netns") // when it was the last
}

// removeLeftHosts takes away what test processes left that were killed.
func removeLeftHosts() {
	for _, pattern := range []string{"/etc/netns/", "/run/netns/"} {
		left, _ := filepath.Glob(pattern + hostsPrefix + "*")
		for _, path := range left {
			id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), hostsPrefix), "-")
			pid, err := strconv.Atoi(id)
			if err == nil && pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				removeHost(filepath.Base(path))
			}
		}
	}
}

// Host is the one of that name; "hub" has the DNS.
func (h *Hosts) Host(name string) *Host { return h.byName[name] }

// DNS says what the names are: addresses by name, and TXT records by name. What it said before is forgotten. Other names below
// .test don't exist.
func (h *Hosts) DNS(t testing.TB, addresses, txt map[string]string) {
	t.Helper()
	args := []string{"--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=", "--log-facility=-",
		"--user=root", "--listen-address=" + dnsAddr, "--bind-interfaces", "--local=/test/", "--host-record=dns.test," + dnsAddr}
	for name, ip := range addresses {
		args = append(args, "--host-record="+name+","+ip)
	}
	for name, text := range txt {
		args = append(args, "--txt-record="+name+","+text)
	}
	if h.dns != nil {
		_ = h.dns.Stop()
	}
	h.dns = h.hub.Start(t, Command{Path: "dnsmasq", Args: args})
	err := WaitFor(startLimit, func() error {
		_, err := h.hub.Resolver().LookupHost(t.Context(), "dns.test")
		return err
	})
	if err != nil {
		t.Fatalf("realtest: DNS: %v\n%s", err, h.dns.Log())
	}
}

// TLS serves https://NAME on port 443 of the host for each site, and passes it on to that port of its loopback. Call DNS first.
func (h *Host) TLS(t testing.TB, sites map[string]int) {
	t.Helper()
	var file strings.Builder
	fmt.Fprintf(&file, "{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n\tstorage file_system %s\n}\n",
		filepath.Join(h.hosts.dir, "caddy"))
	for name, port := range sites {
		fmt.Fprintf(&file, "https://%s {\n\ttls internal\n\treverse_proxy 127.0.0.1:%d\n}\n", name, port)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := h.Start(t, Command{
		Path: tools.Path(tools.Caddy), Args: []string{"run", "--config", path, "--adapter", "caddyfile"},
		Env: []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir},
	})
	for name := range sites {
		err := WaitFor(startLimit, func() error {
			ca, err := os.ReadFile(h.hosts.CA)
			if err != nil {
				return err
			}
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(ca)
			conn, err := h.Dial(t.Context(), "tcp", net.JoinHostPort(h.IP, "443"))
			if err != nil {
				return err
			}
			defer conn.Close()
			return tls.Client(conn, &tls.Config{RootCAs: pool, ServerName: name}).HandshakeContext(t.Context())
		})
		if err != nil {
			t.Fatalf("realtest: TLS for %s: %v\n%s", name, err, p.Log())
		}
	}
}

// Start starts a program on the host. It trusts the authority of TLS.
func (h *Host) Start(t testing.TB, c Command) *Process {
	t.Helper()
	return Start(t, h.Command(c))
}

// CA is the file of the authority that TLS is from, PEM.
func (h *Host) CA() string { return h.hosts.CA }

// Command is c on the host: "ip netns exec" becomes the program, so that signals reach it. Start does this by itself.
func (h *Host) Command(c Command) Command {
	if c.Name == "" {
		c.Name = filepath.Base(c.Path) + " on " + h.Name
	}
	c.Args = append([]string{"netns", "exec", h.ns, c.Path}, c.Args...)
	c.Path = "ip"
	c.Env = append(slices.Clone(c.Env), "SSL_CERT_FILE="+h.hosts.CA, "NODE_EXTRA_CA_CERTS="+h.hosts.CA)
	return c
}

// Crane is crane on the host, by https.
func (h *Host) Crane(t testing.TB, login Login) *Crane {
	t.Helper()
	c := NewCrane(t, login)
	c.args = []string{"netns", "exec", h.ns, c.path}
	c.path = "ip"
	c.env = append(c.env, "SSL_CERT_FILE="+h.hosts.CA)
	return c
}

// Resolver asks the DNS of the hosts, from this host.
func (h *Host) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return h.Dial(ctx, network, net.JoinHostPort(dnsAddr, "53"))
	}}
}

// Client makes requests from the host, trusting the authority of TLS.
func (h *Host) Client(t testing.TB) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(h.hosts.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		name, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		ips, err := h.Resolver().LookupHost(ctx, name)
		if err != nil {
			return nil, err
		}
		return h.Dial(ctx, network, net.JoinHostPort(ips[0], port))
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DialContext: dial}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}
