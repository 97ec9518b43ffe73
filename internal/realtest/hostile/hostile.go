// Package hostile is a part of the network that is run by attackers, for tests: a PLC directory, and PDSes and holds that misbehave on
// demand, each DID in its own way. Nothing of it is on any other address than loopback.
//
//	n := hostile.Start(t, hostile.Options{})                       // n.URL is the directory
//	fill := n.Add(hostile.Party{PDS: hostile.Fill})                 // a repository that never ends
//	good := n.Add(hostile.Party{Images: 3, Layers: 2})              // honest: three images, in the network's own public hold
//	trap := n.Add(hostile.Party{Hold: hostile.Tarpit, Images: 1})   // its images lie in its hold, which answers nothing
//	http.Get(appview + "/v2/" + fill.Name() + "/app/tags/list")
//	n.Calls(fill.DID, "com.atproto.repo.listRecords")
//
// With Options.Directory every other DID is looked up there, so that honest people of real servers and attackers meet under
// one directory, which is what an AppView or a hold under test is given.
package hostile

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// Kind is how a server behaves.
type Kind int

// Kinds of servers. The first bytes of those that stall are white space, so that what comes is no error yet.
const (
	// Honest answers as one should.
	Honest Kind = iota
	// Fill has manifests without end: pages of up to 100, each of 1350 layers, about 15 MB; and a new revision each second.
	Fill
	// Endless has tags without end, small ones; and a new revision each second.
	Endless
	// Drip sends nearly 1 MiB, then nothing.
	Drip
	// Hog sends 1.5 MiB, then nothing.
	Hog
	// Trickle sends a byte a second.
	Trickle
	// Flood sends as fast as it can, without end.
	Flood
	// Huge announces a gigabyte.
	Huge
	// Broken fails with 500.
	Broken
	// Slow answers each call after a quarter of a second, lists with one record and one more cursor, without end.
	Slow
	// Tarpit takes calls and never answers.
	Tarpit
	// Gone is an address where nobody listens.
	Gone
	// Link, as a hold, sends readers of blobs to [Links]; as a PDS it lists an image of whose layers the hold says so.
	Link
	// Cut has manifests without end whose lists break off from the second page on, after five of 1350 layers: one is the same each time,
	// the others are new.
	Cut
)

// links are where a hold of kind [Link] sends the readers of [LinkDigest](i): a metadata service, a page of somebody else's, a file,
// a script, a port of the reader's own machine.
var links = []string{
	"http://169.254.169.254/latest/meta-data/", "https://phish.example/login", "file:///etc/passwd", "javascript:alert(1)",
	"http://127.0.0.1:22/",
}

// Links returns where a hold of kind [Link] sends readers; the layer that leads to each is [LinkDigest].
func Links() []string { return append([]string(nil), links...) }

// Options configures [Start]. The zero value is a network of its own.
type Options struct {
	// Directory is asked for DIDs that are not of this network; empty: there are none.
	Directory string
	// Hosts is how many addresses the PDSes lie at, dealt by turns; 0 is 16.
	Hosts int
	// Stall is how long a server that sends nothing keeps a connection; 0 is 40 s.
	Stall time.Duration
	// TokenBytes is the length of each token of a sign-in; 0 is 31 000.
	TokenBytes int
}

// Party is an account, or a hold, or both at once. The zero value is an honest one without images.
type Party struct {
	PDS  Kind // of the account's own server: [Honest] for one that works
	Hold Kind // of the hold that its DID is
	// Method narrows what misbehaves to one XRPC method, as in "com.atproto.sync.getBlob"; "did" is the directory's answer. Empty:
	// at a PDS the lists, at a hold every method, and all of a server that is a Tarpit, Gone, Slow or Broken.
	Method string
	// At is the DID of the hold that its records name. Empty: its own when Hold is not Honest, else the network's.
	At string
	// Images and Layers of each, of an honest PDS. Tags are v0, v1, …; the repository is "app".
	Images, Layers int
}

// Owner is a party that was added.
type Owner struct {
	DID    string
	Images []Image
	Key    *atcrypto.PrivateKeyK256 // signs its service tokens; the document names it
}

// Name is the DID as the first part of a repository's name.
func (o Owner) Name() string { return strings.ReplaceAll(o.DID, ":", "-") }

// Image is one of an honest owner.
type Image struct {
	Tag      string
	Digest   string
	Manifest []byte
	Blobs    map[string][]byte // configuration and layers, by digest
}

// Network is what [Start] made. It is safe for concurrent use.
type Network struct {
	URL  string // of the directory, and of a PDS that takes every password
	Hold string // DID of an honest public hold

	o     Options
	hosts []*httptest.Server
	done  chan struct{}
	relay http.Handler // nil: other DIDs are unknown

	mu      sync.Mutex
	parties map[string]*party
	calls   map[call]int
	blobs   map[string][]byte // of the holds, by digest, and of the PDSes, by CID
}

type call struct{ did, method string }

// party is what is known of a DID.
type party struct {
	Party
	did, base string
	key       *atcrypto.PrivateKeyK256
	manifests []entry
	tags      []entry
}

// Start runs a network until the test ends.
func Start(t testing.TB, o Options) *Network {
	t.Helper()
	if o.Hosts == 0 {
		o.Hosts = 16
	}
	if o.Stall == 0 {
		o.Stall = 40 * time.Second
	}
	if o.TokenBytes == 0 {
		o.TokenBytes = 31_000
	}
	n := &Network{o: o, done: make(chan struct{}), parties: map[string]*party{}, calls: map[call]int{}, blobs: map[string][]byte{}}
	if o.Directory != "" {
		u, err := url.Parse(o.Directory)
		if err != nil {
			t.Fatal(err)
		}
		n.relay = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	}
	for range o.Hosts + 1 {
		srv := httptest.NewServer(http.HandlerFunc(n.serve))
		n.hosts = append(n.hosts, srv)
		t.Cleanup(srv.Close)
	}
	t.Cleanup(func() { close(n.done) }) // before the servers wait for their handlers
	n.URL = n.hosts[0].URL
	n.Hold = n.Add(Party{}).DID
	return n
}

// Add makes a new DID of a party.
func (n *Network) Add(p Party) Owner {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		panic(err) // no randomness
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	did := newDID(p, len(n.parties))
	if p.At == "" {
		if p.At = n.Hold; p.Hold != Honest {
			p.At = did
		}
	}
	m := &party{Party: p, did: did, key: key, base: n.hosts[1+len(n.parties)%n.o.Hosts].URL}
	n.parties[did] = m
	owner := Owner{DID: did, Key: key}
	for i := range p.Images {
		owner.Images = append(owner.Images, n.addImage(m, i))
	}
	if p.PDS == Link || p.Hold == Link {
		n.addLinks(m)
	}
	return owner
}

// Become changes how a DID's servers behave from the next call on: honest ones turn, and others are mended.
func (n *Network) Become(did string, pds, hold Kind) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.parties[did].PDS, n.parties[did].Hold = pds, hold
}

// Calls is how often a method of a DID's servers was called; method "did" is its document, "" is all together.
func (n *Network) Calls(did, method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if method != "" {
		return n.calls[call{did, method}]
	}
	all := 0
	for c, k := range n.calls {
		if c.did == did {
			all += k
		}
	}
	return all
}

// ClientAt is a client whose connections come from an address of this machine, as in "127.0.0.7". Close its idle connections.
func ClientAt(ip string) *http.Client {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	return &http.Client{
		Transport:     &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// newDID is a did:plc that says in its first letters what the party does.
func newDID(p Party, i int) string {
	word := names[p.PDS]
	if p.PDS == Honest && p.Hold != Honest {
		word = "hold" + names[p.Hold]
	}
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	var number []byte
	for range 8 {
		number = append(number, letters[i%32])
		i /= 32
	}
	return "did:plc:" + fmt.Sprintf("%s%s%s", word, strings.Repeat("a", 16-len(word)), number)
}

var names = map[Kind]string{
	Honest: "okok", Fill: "fill", Endless: "endless", Drip: "drip", Hog: "hog", Trickle: "trickle", Flood: "flood", Huge: "huge",
	Broken: "broken", Slow: "slow", Tarpit: "tarpit", Gone: "gone", Link: "link", Cut: "cut",
}
