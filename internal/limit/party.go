package limit

import "strings"

// Party returns under which name limits count a DID: the names under one domain, of which one wildcard makes any number, are one
// party's (the last two labels of a did:web's host); any other DID is a party of its own.
func Party(did string) string {
	host, ok := strings.CutPrefix(did, "did:web:")
	if !ok {
		return did
	}
	host, _, _ = strings.Cut(host, ":")
	labels := strings.Split(host, ".")
	return "did:web:" + strings.Join(labels[max(len(labels)-2, 0):], ".")
}
