// Package party says whose a DID is, for limits that are shared out by party.
package party

import (
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Of returns under which name limits count a DID. The names under one registered domain, of which one wildcard makes any number, are one
// party's: a did:web's host counts by its public suffix (the private ones too: co.uk, github.io) and one label more. A host that has none
// (localhost, an address, a public suffix itself) counts by itself with its port, and every other DID is a party of its own.
func Of(did string) string {
	id, ok := strings.CutPrefix(did, "did:web:")
	if !ok {
		return did
	}
	id, _, _ = strings.Cut(id, ":") // the rest is a path
	host := id
	if plain, err := url.PathUnescape(id); err == nil {
		host, _, _ = strings.Cut(plain, ":")
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(strings.TrimSuffix(host, ".")))
	if err != nil {
		return "did:web:" + id
	}
	return "did:web:" + domain
}
