package repo

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// TestRecordsLinkedAgainAndAgain: one record under many keys is read and hashed for each, so that is bounded by the CAR's size; some
// equal records are nothing special.
func TestRecordsLinkedAgainAndAgain(t *testing.T) {
	t.Parallel()
	const did = "did:web:again.example"
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	large := append([]byte{0xa1, 0x61, 'v'}, appendBytes(nil, make([]byte, MaxRecordSize-10))...)
	for _, c := range []struct {
		name   string
		record []byte
		keys   int
		ok     bool
	}{
		{"a large one, some times", large, 100, true},
		{"a large one, often", large, 200, false},
		{"a small one, often", []byte{0xa1, 0x61, 'n', 0x01}, 5000, true},
	} {
		node := encodeNode(keysOf(0, c.keys), slices.Repeat([]CID{RecordCID(c.record)}, c.keys), make([]CID, c.keys+1))
		commit := signed(t, did, key, RecordCID(node))
		car := newCARMaker(RecordCID(commit)).add(commit, node, c.record).b
		for _, in := range []io.Reader{bytes.NewReader(car), io.MultiReader(bytes.NewReader(car))} {
			info, err := VerifyCAR(t.Context(), Source{Reader: in, DID: did, Key: pub})
			if c.ok && (err != nil || info.Records != int64(c.keys)) {
				t.Errorf("%s: %d records, %v", c.name, info.Records, err)
			}
			if !c.ok && (!errors.Is(err, ErrInvalidCAR) || !errors.Is(err, ErrTooLarge)) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}
