// Package realtest starts the real things that ATCR talks to, for tests: the
// reference PDS with a PLC directory, indigo's relay, docker, podman, skopeo,
// crane, oras and the OCI conformance suite; and several hosts with names and
// TLS, made of network namespaces ([NewHosts], needs root). It is for tests
// only; nothing that ships imports it.
//
// # What is there and what is not
//
// The programs live in a tools folder ([tools.Dir]: $ATCR_TOOLS, else
// atcr-tools in the user's cache folder) or, where Debian packages them, on
// PATH. Each constructor calls [Need] for what it uses. What then happens when
// something is missing depends on the variable ATCR_REAL:
//
//	unset     the test is skipped with one line that says so
//	require   it is installed; a failing installation fails the test
//	off       everything real is skipped, installed or not
//
// "make test" and CI set require. To install by hand:
//
//	go run ./internal/realtest/install all
//
// # Everything stops
//
// Whatever a test starts listens on a free loopback port, writes under
// t.TempDir, runs in a process group of its own and is stopped in t.Cleanup; it
// also dies with the test process. When a test fails, the last lines of each
// program's output go to the test log.
//
// # A network and a client
//
//	n := realtest.Network(t, realtest.NetworkOptions{})       // PLC + PDS + alice, bob
//	alice := n.Account("alice")
//	pass := n.AppPassword(t, "alice")
//	login := realtest.Login{Registry: host, User: alice.Handle, Password: pass}
//	img := realtest.Image(t, realtest.ImageOptions{SizeMB: 52, Layers: 4})
//	for _, c := range realtest.Clients(t, login) {            // crane, skopeo, podman, docker
//		pushed, err := c.Push(img, login.Registry+"/alice.test/app:v1")
//		pulled, err := c.Pull(login.Registry+"/alice.test/app:v1")
//		// pushed == pulled, and is the digest the registry knows
//	}
//
// # A relay
//
//	relay := realtest.Relay(t, realtest.RelayOptions{PLC: n.PLC, Hosts: []string{"localhost:8080"}})
//	events := realtest.Subscribe(t, relay.URL, 0)
//	e, err := events.Next(10 * time.Second)                   // e.Commit, e.Sync, e.Identity …
//	relay.Complaints()                                        // what it did not like of what it saw
//
// # Faults
//
// [NewFaultProxy] stands before a server and fails chosen requests, before or
// after the server has seen them. A fault that never fired fails its test.
//
// Package hostile is the other side: a directory, PDSes and holds of attackers, each
// DID misbehaving in its own way.
//
// Nothing here is safe for concurrent use by several tests unless it says so;
// make one per test.
package realtest
