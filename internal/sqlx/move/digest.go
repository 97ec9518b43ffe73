package move

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// digest is over rows in any order: a table has no two that are the same.
type digest struct {
	rows int64
	sum  [sha256.Size]byte
}

func (d *digest) add(table string, row []any) {
	h := sha256.New()
	put := func(kind byte, b []byte) {
		var head [9]byte
		head[0] = kind
		binary.BigEndian.PutUint64(head[1:], uint64(len(b)))
		h.Write(head[:])
		h.Write(b)
	}
	put('t', []byte(table))
	for _, v := range row {
		switch v := v.(type) {
		case nil:
			put('n', nil)
		case []byte:
			put('b', v)
		case string:
			put('s', []byte(v))
		default:
			put('v', fmt.Append(nil, v))
		}
	}
	d.rows++
	for i, b := range h.Sum(nil) {
		d.sum[i] ^= b
	}
}

func (d *digest) text() string { return fmt.Sprintf("%d-%s", d.rows, hex.EncodeToString(d.sum[:])) }
