package devnet

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/repo/xrpc"
)

// getServiceAuth mints service tokens as the reference does; not by identity/serviceauth, which refuses what a PDS
// must be able to give (tokens without a method), so that tests meet both.
func (p *PDS) getServiceAuth(w http.ResponseWriter, r *http.Request) error {
	a, c, err := p.access(r, false)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	aud, lxm := q.Get("aud"), q.Get("lxm")
	if aud == "" {
		return xrpc.InvalidRequest("Error: Params must have the property %q", "aud")
	}
	if !validAudience(aud) {
		return xrpc.InvalidRequest("aud must be a valid atproto DID or did#serviceId reference")
	}
	if lxm != "" {
		if _, err := syntax.ParseNSID(lxm); err != nil {
			return xrpc.InvalidRequest("Error: lxm must be a valid nsid")
		}
	}
	if privilegedMethod(lxm) && c.Scope == scopeAppPass {
		return xrpc.InvalidRequest("insufficient access to request a service auth token for the following method: %s", lxm)
	}
	now := p.cfg.Clock()
	exp := now.Add(time.Minute).Unix()
	if s := q.Get("exp"); s != "" {
		if exp, err = strconv.ParseInt(s, 10, 64); err != nil {
			return xrpc.InvalidRequest("Error: exp must be an integer")
		}
		if err := checkExpiry(time.Unix(exp, 0).Sub(now), lxm); err != nil {
			return err
		}
	}
	if protectedMethod(lxm) {
		return xrpc.InvalidRequest("cannot request a service auth token for the following protected method: %s", lxm)
	}
	token, err := serviceToken(a, now, aud, lxm, exp)
	if err != nil {
		return err
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]string{"token": token})
	return nil
}

func checkExpiry(left time.Duration, lxm string) error {
	bad := func(text string) error { return xrpc.Errorf(http.StatusBadRequest, "BadExpiration", "%s", text) }
	switch {
	case left < 0:
		return bad("expiration is in past")
	case left > time.Hour:
		return bad("cannot request a token with an expiration more than an hour in the future")
	case lxm == "" && left > time.Minute:
		return bad("cannot request a method-less token with an expiration more than a minute in the future")
	}
	return nil
}

// validAudience: a did:plc, or a did:web without a path and, but for localhost, without a port; with or without #service.
func validAudience(aud string) bool {
	did, service, has := strings.Cut(aud, "#")
	if has && (service == "" || strings.ContainsAny(service, "#/?")) {
		return false
	}
	parsed, err := syntax.ParseDID(did)
	if err != nil {
		return false
	}
	id := parsed.Identifier()
	switch parsed.Method() {
	case "plc":
		return len(id) == 24
	case "web":
		if id == "localhost" || strings.HasPrefix(id, "localhost%3A") {
			return !strings.Contains(id, ":")
		}
		return !strings.Contains(id, ":") && !strings.Contains(id, "%3A")
	}
	return false
}

// privilegedMethod: an app password must be a privileged one for these.
func privilegedMethod(lxm string) bool {
	return strings.HasPrefix(lxm, "chat.bsky.") || lxm == "com.atproto.server.createAccount"
}

// protectedMethod: only by the account itself, at its PDS.
func protectedMethod(lxm string) bool {
	switch strings.TrimPrefix(lxm, "com.atproto.") {
	case "admin.sendEmail", "identity.requestPlcOperationSignature", "identity.signPlcOperation", "identity.updateHandle",
		"server.activateAccount", "server.confirmEmail", "server.createAppPassword", "server.deactivateAccount",
		"server.getAccountInviteCodes", "server.getSession", "server.listAppPasswords", "server.requestAccountDelete",
		"server.requestEmailConfirmation", "server.requestEmailUpdate", "server.revokeAppPassword", "server.updateEmail":
		return strings.HasPrefix(lxm, "com.atproto.")
	}
	return false
}

func serviceToken(a *account, now time.Time, aud, lxm string, exp int64) (string, error) {
	var id [16]byte
	rand.Read(id[:]) //nolint:errcheck // never fails
	body := map[string]any{"iat": now.Unix(), "iss": a.DID, "aud": aud, "exp": exp, "jti": hex.EncodeToString(id[:])}
	if lxm != "" {
		body["lxm"] = lxm
	}
	payload, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString([]byte(`{"typ":"JWT","alg":"ES256K"}`)) + "." + enc.EncodeToString(payload)
	sig, err := a.key.HashAndSign([]byte(signed))
	return signed + "." + enc.EncodeToString(sig), err
}
