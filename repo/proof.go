package repo

import "github.com/bluesky-social/indigo/atproto/atcrypto"

// VerifyProof checks a CAR as [Repo.Prove] and com.atproto.sync.getRecord make it: hashes, commit of this DID signed by
// this key, the path of nodes with their heights and order, and the record. It needs no store and trusts nothing in car.
// A proof that the record is not in the repository answers [ErrNotFound]; anything wrong is [ErrInvalidProof].
func VerifyProof(car []byte, did string, key atcrypto.PublicKey, collection, rkey string) (Record, error) {
	return Record{}, ErrInvalidProof
}
