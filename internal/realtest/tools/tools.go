// Package tools knows the programs that ATCR's tests use: which versions, where
// they are, and how they are installed with apt-get, npm and go install.
//
// It keeps no state of its own: every answer is read from the disk.
// Installations of one component by several processes wait for each other on a
// lock file.
package tools

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// A Component is one thing that can be installed.
type Component string

// The components. Those of the first group make test needs; the others are for
// make long and make bench.
const (
	ATProto     Component = "atproto"     // reference PDS and PLC directory, with a Node of their own
	Conformance Component = "conformance" // OCI distribution conformance suite
	Crane       Component = "crane"
	Oras        Component = "oras"
	Regctl      Component = "regctl"
	Skopeo      Component = "skopeo"
	Podman      Component = "podman"
	Docker      Component = "docker"   // dockerd and a docker CLI
	Compiler    Component = "compiler" // C and C++, for the race detector and the PDS's native module
	NPM         Component = "npm"
	Relay       Component = "relay" // indigo's relay, with SQLite
	PostgreSQL  Component = "postgresql"
	Namespaces  Component = "namespaces" // hosts of their own, with DNS: ip, dnsmasq
	Caddy       Component = "caddy"      // TLS for them
	Chromium    Component = "chromium"
	Axe         Component = "axe" // axe-core, which judges pages

	SecretService Component = "secretservice" // gnome-keyring, and what starts a session bus for it

	Helm         Component = "helm"
	Distribution Component = "distribution" // CNCF distribution, to compare with
	VersityGW    Component = "versitygw"    // an S3 server
)

// goTools are installed by go install into Dir()/bin.
var goTools = map[Component]struct{ binary, pkg, version string }{
	Conformance:  {"conformance", "github.com/opencontainers/distribution-spec/conformance", "v0.0.0-20260831232431-97274622c111"},
	Crane:        {"crane", "github.com/google/go-containerregistry/cmd/crane", "v0.22.1"},
	Oras:         {"oras", "oras.land/oras/cmd/oras", "v1.3.6"},
	Regctl:       {"regctl", "github.com/regclient/regclient/cmd/regctl", "v0.11.7"},
	Helm:         {"helm", "helm.sh/helm/v3/cmd/helm", "v3.22.0"},
	Distribution: {"registry", "github.com/distribution/distribution/v3/cmd/registry", "v3.1.2"},
	Relay:        {"relay", "github.com/bluesky-social/indigo/cmd/relay", "v0.0.0-20260605210604-af2fec94f34c"},
	VersityGW:    {"versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"},
}

// debTools come from Debian: the programs that must be on PATH (or in the
// folder of PostgreSQL's newest version), and the packages that bring them.
var debTools = map[Component]struct{ binaries, packages []string }{
	Skopeo: {[]string{"skopeo"}, []string{"skopeo"}},
	Podman: {[]string{"podman", "runc"}, []string{"podman", "runc", "containernetworking-plugins", "uidmap"}},
	Docker: {[]string{"dockerd", "docker"}, []string{"docker.io"}},

	Namespaces: {[]string{"ip", "dnsmasq"}, []string{"iproute2", "dnsmasq-base"}},

	Compiler: {[]string{"gcc", "g++", "make", "python3"}, []string{"build-essential", "python3"}},
	NPM:      {[]string{"npm"}, []string{"npm"}},

	Chromium: {[]string{"chromium"}, []string{"chromium"}},

	PostgreSQL: {[]string{"postgres", "initdb"}, []string{"postgresql"}},

	// dbus-x11 is the one session bus that does not bring systemd.
	SecretService: {[]string{"gnome-keyring-daemon", "dbus-run-session", "dbus-send"},
		[]string{"gnome-keyring", "dbus-daemon", "dbus-bin", "dbus-x11"}},
}

// unpacked come from the Debian packages of their names, which are not installed, since that would start and enable a service:
// the one program in it goes to Dir()/bin.
var unpacked = map[Component]string{Caddy: "usr/bin/caddy"}

// Default lists what make test needs.
func Default() []Component {
	return []Component{Compiler, Skopeo, Podman, Docker, Crane, Oras, Regctl, Conformance, PostgreSQL,
		ATProto, Relay, Namespaces, Caddy, VersityGW, SecretService, Chromium, Axe}
}

// All lists every component.
func All() []Component {
	return append(Default(), Helm, Distribution)
}

// Parse turns a name into a Component; "default" and "all" are several.
func Parse(name string) ([]Component, error) {
	switch name {
	case "default":
		return Default(), nil
	case "all":
		return All(), nil
	}
	if c := Component(name); slices.Contains(All(), c) {
		return []Component{c}, nil
	}
	return nil, fmt.Errorf("unknown component %q: one of default, all, %v", name, All())
}

// Dir is the folder of the tools: $ATCR_TOOLS, else atcr-tools in the user's
// cache folder, else (no home) one in the temporary folder that belongs to the
// user id.
func Dir() string {
	if d := os.Getenv("ATCR_TOOLS"); d != "" {
		return d
	}
	if d, err := os.UserCacheDir(); err == nil {
		return filepath.Join(d, "atcr-tools")
	}
	return filepath.Join(os.TempDir(), "atcr-tools-"+strconv.Itoa(os.Getuid()))
}

// Path is where the named program of c is to be run from: a file in Dir for
// what we install there, a file for PostgreSQL, the bare name for what Debian
// puts on PATH. That of Axe is a script for a page.
func Path(c Component) string {
	if g, ok := goTools[c]; ok {
		return filepath.Join(Dir(), "bin", g.binary)
	}
	if file, ok := unpacked[c]; ok {
		return filepath.Join(Dir(), "bin", filepath.Base(file))
	}
	if c == PostgreSQL {
		return filepath.Join(postgresDir(), "postgres")
	}
	if d, ok := debTools[c]; ok {
		return d.binaries[0]
	}
	if c == Axe {
		return filepath.Join(axe.dir(), "node_modules", "axe-core", "axe.min.js")
	}
	return nodePath()
}

// Installed reports whether c is there in the pinned version. It takes
// milliseconds and starts nothing.
func Installed(c Component) bool {
	if g, ok := goTools[c]; ok {
		info, err := buildinfo.ReadFile(Path(c))
		return err == nil && info.Main.Version == g.version
	}
	if d, ok := debTools[c]; ok {
		for _, b := range d.binaries {
			if c == PostgreSQL {
				b = filepath.Join(postgresDir(), b)
			}
			if _, err := exec.LookPath(b); err != nil {
				return false
			}
		}
		return true
	}
	if _, ok := unpacked[c]; ok {
		_, err := os.Stat(Path(c))
		return err == nil
	}
	return c == ATProto && stackInstalled() || c == Axe && axe.installed()
}

// postgresDir is where Debian has the server's programs: off PATH, by version.
func postgresDir() string {
	found, err := filepath.Glob("/usr/lib/postgresql/[1-9][0-9]/bin")
	if err != nil || len(found) == 0 {
		return "/usr/lib/postgresql/bin"
	}
	return found[len(found)-1]
}
