package serviceauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/limit"
)

const (
	// Leeway is how far two clocks may differ.
	Leeway = 2 * time.Minute
	// legacyTTL is how far ahead a legacy token's exp may be.
	legacyTTL = 10 * time.Minute
	// legacyMethod is what older AppViews name, whatever they go on to call.
	legacyMethod = "com.atproto.repo.getRecord"
	// refetchEvery bounds how often a failed signature makes us fetch a DID's document afresh.
	refetchEvery = time.Minute
)

// VerifierOptions configures [NewVerifier]. Audiences is required.
type VerifierOptions struct {
	// Audiences are what aud may be, exactly: see identity.Identity.Audiences.
	Audiences []string
	// Legacy are the methods for which an older AppView's token is taken, too: lxm com.atproto.repo.getRecord, used more
	// than once, with exp at most 10 minutes ahead. Empty takes none. Such tokens are logged and counted.
	Legacy []string
	// NotBefore refuses tokens issued earlier: for the first hour after a restore from backup.
	NotBefore time.Time
	// Deactivated reports whether an account is known to be deactivated, suspended or deleted; nil knows of none. An error
	// counts as "not known".
	Deactivated func(ctx context.Context, did syntax.DID) (bool, error)
	// MaxReplay bounds the used tokens that are remembered; 0 is 100 000.
	MaxReplay int
	// MaxPerIssuer bounds one issuer's live tokens; 0 is 5 000.
	MaxPerIssuer int
	Log          *slog.Logger     // nil: slog.Default()
	Clock        func() time.Time // nil: time.Now
}

// Claims is what a checked token says.
type Claims struct {
	Issuer   syntax.DID
	Subject  syntax.DID // whom a trusted service speaks for; empty when it speaks for itself
	Audience string
	Method   string // lxm as sent
	ID       string // jti
	Issued   time.Time
	Expires  time.Time
	Legacy   bool // taken by [VerifierOptions.Legacy]
}

// Verifier checks service tokens. It is safe for concurrent use.
type Verifier struct {
	dir     identity.Directory
	opts    VerifierOptions
	used    *replayCache
	refetch *limit.Rates
	results *prometheus.CounterVec
}

// NewVerifier returns a verifier that finds keys in dir. After a failed signature it calls dir.Purge and looks up again. An
// *identity.Resolver is asked without handles, which don't matter here.
func NewVerifier(dir identity.Directory, opts VerifierOptions) *Verifier {
	if r, ok := dir.(*identity.Resolver); ok {
		dir = r.DIDs()
	}
	if opts.MaxReplay <= 0 {
		opts.MaxReplay = 100_000
	}
	if opts.MaxPerIssuer <= 0 {
		opts.MaxPerIssuer = 5_000
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	return &Verifier{
		dir: dir, opts: opts,
		used:    newReplayCache(opts.MaxReplay, opts.MaxPerIssuer),
		refetch: limit.NewRates(1/refetchEvery.Seconds(), 1),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atcr_service_tokens_total",
			Help: "Service tokens checked, by result: ok, legacy, or the kind of error.",
		}, []string{"result"}),
	}
}

// Metrics returns the verifier's collectors, for the caller's registry.
func (v *Verifier) Metrics() []prometheus.Collector { return []prometheus.Collector{v.results} }

// VerifyRequest is [Verifier.Verify] of the request's Authorization: Bearer. Without one it is [ErrNotServiceToken]; a DPoP header
// is refused with a message that says what to send.
func (v *Verifier) VerifyRequest(r *http.Request, methods ...string) (Claims, error) {
	scheme, tok, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch strings.ToLower(scheme) {
	case "bearer":
		return v.Verify(r.Context(), strings.TrimSpace(tok), methods...)
	case "dpop":
		v.results.WithLabelValues(string(WrongScheme)).Inc()
		return Claims{}, &Error{Kind: WrongScheme, Message: "a DPoP access token is for the account's own server: " +
			"ask that server's com.atproto.server.getServiceAuth for a service token and send it as Bearer"}
	}
	return Claims{}, ErrNotServiceToken
}

// Verify checks a token that must be for one of the methods (NSIDs), and uses it up. Errors: [*Error], [ErrNotServiceToken].
func (v *Verifier) Verify(ctx context.Context, tok string, methods ...string) (Claims, error) {
	c, err := v.verify(ctx, tok, methods)
	switch kind := KindOf(err); {
	case kind != "":
		v.results.WithLabelValues(string(kind)).Inc()
	case err == nil && c.Legacy:
		v.results.WithLabelValues("legacy").Inc()
		v.opts.Log.Info("legacy service token taken", "issuer", c.Issuer, "methods", methods)
	case err == nil:
		v.results.WithLabelValues("ok").Inc()
	}
	return c, err
}

func (v *Verifier) verify(ctx context.Context, tok string, methods []string) (Claims, error) {
	t, err := parse(tok)
	if err != nil {
		return Claims{}, err
	}
	now := v.opts.Clock()
	c, err := v.checkClaims(t, methods, now)
	if err != nil {
		return Claims{}, err
	}
	if err := v.checkSignature(ctx, t, now); err != nil {
		return Claims{}, err
	}
	if v.opts.Deactivated != nil {
		if off, err := v.opts.Deactivated(ctx, c.Issuer); err == nil && off {
			return Claims{}, &Error{Kind: UnknownIssuer, Message: "the issuer's account is deactivated"}
		}
	}
	if c.Legacy {
		return c, nil
	}
	return c, v.used.use(c.Issuer, c.ID, c.Expires.Add(Leeway), now)
}

func (v *Verifier) checkClaims(t *token, methods []string, now time.Time) (Claims, error) {
	p := t.payload
	fail := func(k Kind, format string, args ...any) (Claims, error) {
		return Claims{}, &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
	}
	if !slices.Contains(v.opts.Audiences, p.Aud) {
		return fail(BadAudience, "aud %.128q is not this service", p.Aud)
	}
	if p.Exp == nil || p.Iat == nil || p.Jti == "" || len(p.Jti) > 256 {
		return fail(BadToken, "exp, iat and jti (up to 256 bytes) are required")
	}
	c := Claims{Issuer: t.issuer, Audience: p.Aud, Method: p.Lxm, ID: p.Jti, Issued: p.Iat.time(), Expires: p.Exp.time()}
	if p.Sub != "" {
		sub, err := syntax.ParseDID(p.Sub)
		if err != nil {
			return fail(BadToken, "sub is no DID")
		}
		c.Subject = sub
	}
	if err := v.checkTimes(c, p.Nbf, now); err != nil {
		return Claims{}, err
	}
	switch {
	case p.Lxm == "":
		return fail(BadLxm, "lxm is missing: ask getServiceAuth with lxm=%s", strings.Join(methods, " or "))
	case slices.Contains(methods, p.Lxm):
	case p.Lxm == legacyMethod && v.takesLegacy(methods):
		if c.Expires.After(now.Add(legacyTTL + Leeway)) {
			return fail(Expired, "a token for %s may be valid for 10 minutes at most", legacyMethod)
		}
		c.Legacy = true
	default:
		return fail(BadLxm, "lxm is %.128q, this call needs %s", p.Lxm, strings.Join(methods, " or "))
	}
	return c, nil
}

func (v *Verifier) takesLegacy(methods []string) bool {
	return slices.ContainsFunc(methods, func(m string) bool { return slices.Contains(v.opts.Legacy, m) })
}

func (v *Verifier) checkTimes(c Claims, nbf *seconds, now time.Time) error {
	fail := func(message string) error { return &Error{Kind: Expired, Message: message} }
	switch {
	case !now.Before(c.Expires.Add(Leeway)):
		return fail("the token has expired")
	case c.Expires.After(now.Add(MaxTTL + Leeway)):
		return fail("exp is more than an hour ahead")
	case c.Issued.After(now.Add(Leeway)):
		return fail("iat is in the future: compare the clocks")
	case c.Issued.Before(now.Add(-MaxTTL - Leeway)):
		return fail("iat is more than an hour ago")
	case c.Expires.Before(c.Issued):
		return fail("exp is before iat")
	case nbf != nil && nbf.time().After(now.Add(Leeway)):
		return fail("nbf is in the future")
	case c.Issued.Before(v.opts.NotBefore.Truncate(time.Second)):
		return fail("the token was issued before this server was restored: ask for a new one")
	}
	return nil
}

// checkSignature verifies by the remembered document, and once more by a fresh one.
func (v *Verifier) checkSignature(ctx context.Context, t *token, now time.Time) error {
	name, err := t.keyName()
	if err != nil {
		return err
	}
	err = v.verifyBy(ctx, t, name)
	if k := KindOf(err); k != BadSignature && k != UnknownIssuer {
		return err
	}
	if _, never := identity.Unusable(err); never || errors.Is(err, identity.ErrDIDNotFound) || v.refetch.Take(t.issuer.String(), now) > 0 {
		return err
	}
	if perr := v.dir.Purge(ctx, t.issuer.AtIdentifier()); perr != nil {
		return &Error{Kind: Unavailable, Message: "the issuer's keys can't be fetched now", Err: perr}
	}
	return v.verifyBy(ctx, t, name)
}

func (v *Verifier) verifyBy(ctx context.Context, t *token, name string) error {
	acc, err := v.dir.LookupDID(ctx, t.issuer)
	why, never := identity.Unusable(err)
	switch {
	case errors.Is(err, identity.ErrDIDNotFound):
		return &Error{Kind: UnknownIssuer, Message: "there is no such issuer", Err: err}
	case never:
		return &Error{Kind: UnknownIssuer, Message: "the issuer can't be used: " + why, Err: err}
	case err != nil:
		return &Error{Kind: Unavailable, Message: "the issuer's keys can't be fetched now", Err: err}
	}
	key, err := acc.GetPublicKey(name)
	if err != nil {
		return &Error{Kind: UnknownIssuer, Message: "the issuer's document has no such key", Err: err}
	}
	if alg, err := algOf(key); err != nil || alg != t.header.Alg {
		return &Error{Kind: BadSignature, Message: "alg is not that of the issuer's key"}
	}
	if err := key.HashAndVerify(t.signed, t.sig); err != nil { // refuses high S
		return &Error{Kind: BadSignature, Message: "the signature is not by the issuer's key"}
	}
	return nil
}
