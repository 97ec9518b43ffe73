// Package serviceauth mints and checks service tokens: the short JWTs by which one AT Protocol service asks another
// in the name of an account (specification "XRPC", section "Inter-Service Authentication").
//
// # Minting
//
//	token, err := serviceauth.Mint(id.Key, serviceauth.MintOptions{
//		Issuer: id.DID, Audience: "did:web:hold.example.com#atcr_hold", Method: "io.atcr.hold.getQuota",
//	})
//
// # Checking
//
// A [Verifier] takes a token when all of this holds: it is addressed to exactly one of the verifier's audiences; it names one of
// the methods that the call may have; it has iat and jti, has not expired, does not live longer than an hour, and was
// not seen before; and the key that its kid names in the issuer's DID document (#atproto without one) made its signature, ES256 or
// ES256K with low S. When the signature fails the document is fetched afresh, at most once a minute for a DID, so
// that a rotated key counts at once. Clocks may differ by two minutes.
//
//	v := serviceauth.NewVerifier(dir, serviceauth.VerifierOptions{Audiences: id.Audiences()})
//	claims, err := v.VerifyRequest(r, "io.atcr.hold.getQuota")
//	// claims.Issuer asks
//
// Errors have a [Kind]; [Error.Name] is what an XRPC answer says. [ErrNotServiceToken] means that there is none: what was
// sent is no JWT issued by a DID, and a server goes on as if nothing had been sent.
//
// Used tokens are remembered in memory until they expire, at most [VerifierOptions.MaxReplay]; when the memory is full, new tokens are
// refused rather than old ones forgotten. After a restore from backup set [VerifierOptions.NotBefore] to the start, so that
// tokens used before it don't count again.
package serviceauth
