package repo

import (
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

const formatVersion = 3

// commitBlock is the signed object at the root of a repository.
type commitBlock struct {
	did  string
	rev  TID
	data CID
	prev CID // of old repositories; ours write null
	sig  []byte
}

func (c commitBlock) encode(signed bool) []byte {
	b := make([]byte, 0, 256)
	fields := uint64(5)
	if signed {
		fields = 6
	}
	b = appendHead(b, majorMap, fields)
	b = appendText(appendText(b, "did"), c.did)
	b = appendText(appendText(b, "rev"), c.rev.String())
	if signed {
		b = appendBytes(appendText(b, "sig"), c.sig)
	}
	b = appendLink(appendText(b, "data"), c.data)
	b = appendLink(appendText(b, "prev"), c.prev)
	return appendHead(appendText(b, "version"), majorUint, formatVersion)
}

func (c *commitBlock) sign(key atcrypto.PrivateKey) (err error) {
	c.sig, err = key.HashAndSign(c.encode(false))
	return err
}

func (c commitBlock) verify(key atcrypto.PublicKey) error {
	return key.HashAndVerify(c.encode(false), c.sig)
}

func decodeCommit(block []byte) (commitBlock, error) {
	var c commitBlock
	r := cborReader{b: block}
	if n := r.expect(majorMap, "commit"); r.err == nil && n != 6 {
		r.fail("a commit has six fields, not %d", n)
	}
	r.key("did")
	c.did = r.text()
	r.key("rev")
	rev := r.text()
	r.key("sig")
	c.sig = r.bytes()
	r.key("data")
	c.data = r.link()
	r.key("prev")
	c.prev = r.nullableLink()
	r.key("version")
	if v := r.expect(majorUint, "version"); r.err == nil && v != formatVersion {
		r.fail("version %d of the repository format is not known", v)
	}
	err := r.end()
	if err == nil {
		c.rev, err = ParseTID(rev)
	}
	if err == nil {
		err = checkDID(c.did)
	}
	if err != nil {
		return commitBlock{}, fmt.Errorf("%w: commit: %w", ErrCorrupt, err)
	}
	return c, nil
}
