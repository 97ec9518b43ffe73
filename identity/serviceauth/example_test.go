package serviceauth_test

import (
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/identity"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/serviceauth"
)

func Example() {
	key, _ := atcrypto.GeneratePrivateKeyK256()
	pub, _ := key.PublicKey()
	dir := identity.NewMockDirectory()
	dir.Insert(identity.Account{
		DID:  "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
		Keys: map[string]indigo.VerificationMethod{"atproto": {Type: "Multikey", PublicKeyMultibase: pub.Multibase()}},
	})

	token, _ := serviceauth.Mint(key, serviceauth.MintOptions{
		Issuer: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", Audience: "did:web:hold.example.com", Method: "io.atcr.hold.getQuota",
	})

	v := serviceauth.NewVerifier(dir, serviceauth.VerifierOptions{Audiences: []string{"did:web:hold.example.com"}})
	claims, err := v.Verify(context.Background(), token, "io.atcr.hold.getQuota")
	fmt.Println(claims.Issuer, err)
	_, err = v.Verify(context.Background(), token, "io.atcr.hold.getQuota")
	fmt.Println(serviceauth.KindOf(err))
	// Output:
	// did:plc:aaaaaaaaaaaaaaaaaaaaaaaa <nil>
	// replay
}
