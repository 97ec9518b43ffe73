package repo

import (
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// TID is a revision as a number: microseconds since 1970 in the upper 53 bits, a clock's id in the lower ten.
type TID int64

const tidAlphabet = "234567abcdefghijklmnopqrstuvwxyz"

// ParseTID reads the 13 characters of a TID.
func ParseTID(s string) (TID, error) {
	t, err := syntax.ParseTID(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a TID: %w", clip(s), err)
	}
	return TID(t.Integer()), nil
}

// String is the 13 characters, whose byte order is the order of time; empty for zero.
func (t TID) String() string {
	if t == 0 {
		return ""
	}
	var b [13]byte
	for i, v := 12, uint64(t); i >= 0; i-- {
		b[i] = tidAlphabet[v&31]
		v >>= 5
	}
	return string(b[:])
}

// Time is when the TID was made, as far as its clock was right.
func (t TID) Time() time.Time { return time.UnixMicro(int64(t) >> 10).UTC() }

// nextTID is the TID of now, or the next after prev where the clock is behind.
func nextTID(now time.Time, prev TID) TID {
	t := TID(now.UnixMicro() << 10)
	if t <= prev {
		t = (prev>>10 + 1) << 10
	}
	return t
}
