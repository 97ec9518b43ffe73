package repo

import (
	"context"
	"fmt"
	"time"
)

// AnnounceAccount writes an #account event: whether this repository's account is active at its server. An empty status says that it
// is; else it is one of the specification's reasons why not: deactivated, takendown, suspended, deleted. The repository itself does not
// change. Errors are those of Apply.
func (r *Repo) AnnounceAccount(ctx context.Context, status string) error {
	if r.keepEvents <= 0 {
		return nil
	}
	err := r.submitBulk(ctx, func(s Reader, part func(*Changes) error) error {
		h, err := s.Head()
		if err != nil {
			return err
		}
		now := r.clock()
		h.Seq = max(h.Seq+1, now.UnixMicro())
		return part(&Changes{Head: &h, Events: []Event{{Seq: h.Seq, Rev: h.Rev, Body: accountFrame(r.did, status, h.Seq, now)}}})
	})
	if err != nil {
		return fmt.Errorf("announce the account %s: %w", r.did, err)
	}
	return nil
}

// accountFrame is the whole WebSocket message of an #account event.
func accountFrame(did, status string, seq int64, at time.Time) []byte {
	b := frameHeader(nil, "#account")
	fields := uint64(4)
	if status != "" {
		fields = 5
	}
	b = appendHead(b, majorMap, fields)
	b = appendText(appendText(b, "did"), did)
	b = appendHead(appendText(b, "seq"), majorUint, uint64(seq))
	b = appendText(appendText(b, "time"), formatTime(at))
	b = appendBool(appendText(b, "active"), status == "")
	if status != "" {
		b = appendText(appendText(b, "status"), status)
	}
	return b
}
