package repo

import (
	"context"
	"fmt"
	"time"
)

// identityEvent asks the writer for an #identity event, alone or before the request's commit.
type identityEvent struct {
	handle string
	alone  bool
}

// Signed reports whether the current commit is signed by the repository's key. It is not when the repository was opened
// with a new key: then [Repo.Resign].
func (r *Repo) Signed(ctx context.Context) (bool, error) {
	_, block, err := r.CommitBlock(ctx)
	if err != nil {
		return false, err
	}
	c, err := decodeCommit(block)
	if err != nil {
		return false, err
	}
	return c.verify(r.PublicKey()) == nil, nil
}

// Resign writes an #identity event and then an empty commit, signed by the repository's key, in one transaction: what followers
// of the firehose must see after the key in the DID document has changed, in this order, since a commit by a key that
// they don't know yet is dropped. handle stands in the event; it may be empty. Errors are those of Apply.
func (r *Repo) Resign(ctx context.Context, handle string) (Commit, error) {
	req := newRequest(ctx)
	req.identity = &identityEvent{handle: handle}
	if err := r.submit(ctx, req); err != nil {
		return Commit{}, fmt.Errorf("sign %s anew: %w", r.did, err)
	}
	return req.commit, nil
}

// Announce writes an #identity event alone: the DID document or the handle has changed. Errors are those of Apply.
func (r *Repo) Announce(ctx context.Context, handle string) error {
	req := newRequest(ctx)
	req.identity = &identityEvent{handle: handle, alone: true}
	if err := r.submit(ctx, req); err != nil {
		return fmt.Errorf("announce the identity of %s: %w", r.did, err)
	}
	return nil
}

// announce adds a request's #identity event to the group.
func (g *group) announce(e *identityEvent) {
	g.owed = nil
	if g.r.keepEvents <= 0 {
		return
	}
	now := g.r.clock()
	g.head.Seq = max(g.head.Seq+1, now.UnixMicro())
	mine := newOverlay()
	mine.events = []Event{{Seq: g.head.Seq, Rev: g.head.Rev, Body: identityFrame(g.r.did, e.handle, g.head.Seq, now)}}
	g.rows.add(mine)
	head := g.head
	g.rows.head = &head
}

// identityFrame is the whole WebSocket message of an #identity event.
func identityFrame(did, handle string, seq int64, at time.Time) []byte {
	b := frameHeader(nil, "#identity")
	fields := uint64(3)
	if handle != "" {
		fields = 4
	}
	b = appendHead(b, majorMap, fields)
	b = appendText(appendText(b, "did"), did)
	b = appendHead(appendText(b, "seq"), majorUint, uint64(seq))
	b = appendText(appendText(b, "time"), formatTime(at))
	if handle != "" {
		b = appendText(appendText(b, "handle"), handle)
	}
	return b
}

// Resync makes followers take the repository as it is now: one empty commit, announced by a #sync event whose number is at least
// seq. It is for a repository that was restored from a backup: its followers have seen later commits, which the next #commit would
// not follow on, and higher numbers. Errors: [ErrSeq], and those of Apply.
func (r *Repo) Resync(ctx context.Context, seq int64) (Commit, error) {
	if err := checkSeq(seq); err != nil {
		return Commit{}, fmt.Errorf("tell the followers of %s: %w", r.did, err)
	}
	var c Commit
	err := r.submitBulk(ctx, func(s Reader, part func(*Changes) error) error {
		old, err := s.Head()
		if err != nil {
			return err
		}
		now := r.clock()
		old.Seq = max(old.Seq, seq-1)
		c, err = r.bulkHead(&bulk{s: s, part: part, now: now, rev: nextTID(now, old.Rev)}, old, old.Root, old.Height, old.Records)
		return err
	})
	if err != nil {
		return Commit{}, fmt.Errorf("tell the followers of %s: %w", r.did, err)
	}
	return c, nil
}
