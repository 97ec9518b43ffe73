package oauth

import (
	"net/http"
	"net/url"
	"sync"
)

const (
	maxNonce  = 256  // bytes
	maxNonces = 4096 // of each half
)

// nonces are what servers want to see in the next proof of possession (RFC 9449 §8): the last of each grant and server, from whatever
// answer. They are in memory alone: a wrong or missing one costs a request. The zero value is ready; safe for concurrent use.
type nonces struct {
	mu         sync.Mutex
	young, old map[nonceKey]string // what was used since the last time that young was full, and before
}

type nonceKey struct{ grant, server string }

// keyOf is by scheme and host: a server has one nonce for all of its URLs.
func keyOf(grant string, u *url.URL) nonceKey { return nonceKey{grant, u.Scheme + "://" + u.Host} }

func (n *nonces) get(grant string, u *url.URL) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := keyOf(grant, u)
	if v, ok := n.young[k]; ok {
		return v
	}
	v := n.old[k]
	if v != "" {
		n.put(k, v)
	}
	return v
}

// saw takes the nonce of an answer, if it has one, and returns it.
func (n *nonces) saw(grant string, u *url.URL, h http.Header) string {
	v := h.Get("DPoP-Nonce")
	if v == "" || len(v) > maxNonce || !visible(v) {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.put(keyOf(grant, u), v)
	return v
}

func (n *nonces) put(k nonceKey, v string) {
	if _, ok := n.young[k]; !ok && len(n.young) >= maxNonces {
		n.young, n.old = nil, n.young
	}
	if n.young == nil {
		n.young = map[nonceKey]string{}
	}
	n.young[k] = v
}

// visible reports whether s has nothing but visible ASCII, as tokens and nonces have (RFC 6749 appendix A).
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
