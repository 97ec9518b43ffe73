package identity

import (
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/identity/internal/plclog"
)

// NormalizeDID is atcr.NormalizeDID with indigo's type: the one spelling of a DID that is compared and sent. A port that was
// written out (did:web:127.0.0.1:8080, as people put it in configuration files) is percent-encoded.
func NormalizeDID(s string) (syntax.DID, error) {
	did, err := atcr.NormalizeDID(s)
	return syntax.DID(did), err
}

// ParseOwner reads whose a repository is, as atcr.ParseIdentity does: a handle, a DID, or a DID in the spelling that
// OCI names can carry (did-plc-…, did_web_…). What it returns has one spelling.
func ParseOwner(s string) (syntax.AtIdentifier, error) {
	id, err := atcr.ParseIdentity(s)
	if err != nil {
		return "", err
	}
	return syntax.ParseAtIdentifier(id.String())
}

// WebDID returns the did:web of a service's public URL: https and a host name without a port. Under test mode the
// scheme may be http and the host may be loopback with a port, which becomes did:web:localhost%3APORT however the host is
// spelt, since PDSes mint no tokens for the form with an address.
func WebDID(publicURL string, testMode bool) (syntax.DID, error) {
	return plclog.WebDID(publicURL, testMode)
}

// webURL returns where a did:web's document is fetched.
func webURL(did syntax.DID, testMode bool) (string, error) {
	host := atcr.WebHost(did.String())
	name, port, _ := strings.Cut(host, ":")
	switch {
	case host == "":
		return "", fmt.Errorf("%s is no did:web of a host", did)
	case plclog.IsLoopbackName(name):
		if !testMode {
			return "", fmt.Errorf("%s is on loopback, which is for test mode only", did)
		}
	case port != "":
		return "", fmt.Errorf("%s has a port, which did:web may have on loopback under test mode only", did)
	default:
		if h, err := syntax.ParseHandle(name); err != nil || !h.AllowedTLD() {
			return "", fmt.Errorf("%s is no plain public host name", did)
		}
	}
	return atcr.DIDWebURL(did.String(), testMode) + "/.well-known/did.json", nil
}

// spellings returns a DID and, under test mode, the other spelling of a loopback did:web with the same port: those are one
// host. The first is the one given, normalised.
func spellings(did syntax.DID, testMode bool) []syntax.DID {
	n, err := NormalizeDID(did.String())
	if err != nil {
		return []syntax.DID{did}
	}
	all := []syntax.DID{n}
	if twin := atcr.LoopbackTwin(n.String()); twin != "" && testMode {
		all = append(all, syntax.DID(twin))
	}
	return all
}

func sameDID(a, b syntax.DID, testMode bool) bool {
	return atcr.SameDID(a.String(), b.String(), testMode)
}

const plcLength = len("did:plc:") + 24

// canonical returns a key under which all spellings of a DID fall together.
func canonical(did syntax.DID, testMode bool) syntax.DID {
	if len(did) == plcLength && strings.HasPrefix(string(did), "did:plc:") { // the common case, which has one spelling
		return did
	}
	for _, s := range spellings(did, testMode) {
		if did = s; strings.HasPrefix(s.String(), "did:web:localhost") {
			break
		}
	}
	return did
}
