package repo

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
)

// Head is the current commit.
func (r *Repo) Head(ctx context.Context) (Commit, error) {
	h, err := r.store.Read(ctx).Head()
	if err != nil {
		return Commit{}, fmt.Errorf("read the head of %s: %w", r.did, err)
	}
	return commitOf(h), nil
}

// CommitBlock is the current commit with its block: the signed DAG-CBOR.
func (r *Repo) CommitBlock(ctx context.Context) (Commit, []byte, error) {
	h, err := r.store.Read(ctx).Head()
	if err != nil {
		return Commit{}, nil, fmt.Errorf("read the head of %s: %w", r.did, err)
	}
	return commitOf(h), h.Block, nil
}

func commitOf(h Head) Commit {
	return Commit{CID: h.CID, Rev: h.Rev.String(), Data: h.Root, Time: h.Rev.Time()}
}

// Get returns one record. Errors: [ErrNotFound].
func (r *Repo) Get(ctx context.Context, collection, rkey string) (Record, error) {
	s, err := r.store.Read(ctx).Record(collection + "/" + rkey)
	if err != nil {
		return Record{}, fmt.Errorf("record %s/%s of %s: %w", clip(collection), clip(rkey), r.did, err)
	}
	return s.record(), nil
}

func (s StoredRecord) record() Record {
	c, k := splitPath(s.Path)
	return Record{Collection: c, RKey: k, CID: s.CID, Rev: s.Rev.String(), Value: s.Value}
}

// A page of List: at first few rows, since many callers want few.
const (
	firstPage = 32
	maxPage   = 512
	pageBytes = 1 << 20
)

// List iterates over the records of a collection in byte order of their keys, from the first after the given key (the
// first at all when it is empty); in reverse from the last before it. The sequence ends after an error. Records belong
// to the caller. It reads pages of some hundred records and holds nothing between them, so the loop may take its
// time and may call the Repo; a record written meanwhile behind the page is seen.
func (r *Repo) List(ctx context.Context, collection, after string, reverse bool) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		from, to := collection+"/", collection+"0" // '0' follows '/'
		for limit := firstPage; ; limit = min(3*limit, maxPage) {
			switch {
			case after == "":
			case reverse:
				to = collection + "/" + after
			default:
				from = collection + "/" + after + "\x00"
			}
			page, full, err := r.page(ctx, from, to, reverse, limit)
			for _, rec := range page {
				if !yield(rec, nil) {
					return
				}
				after = rec.RKey
			}
			if err != nil {
				yield(Record{}, fmt.Errorf("list %s of %s: %w", clip(collection), r.did, err))
				return
			}
			if !full {
				return
			}
		}
	}
}

func (r *Repo) page(ctx context.Context, from, to string, reverse bool, limit int) (page []Record, full bool, err error) {
	size := 0
	for s, err := range r.store.Read(ctx).Records(from, to, reverse, limit) {
		if err != nil {
			return page, false, err
		}
		s.Value = slices.Clone(s.Value)
		page = append(page, s.record())
		if size += len(s.Value); size > pageBytes {
			return page, true, nil
		}
	}
	return page, len(page) == limit, nil
}

// Collections lists the collections that hold a record, in byte order.
func (r *Repo) Collections(ctx context.Context) ([]string, error) {
	var out []string
	s := r.store.Read(ctx)
	for from := ""; ; {
		found := false
		for rec, err := range s.Records(from, "", false, 1) {
			if err != nil {
				return nil, fmt.Errorf("collections of %s: %w", r.did, err)
			}
			c, _ := splitPath(rec.Path)
			out = append(out, c)
			from, found = c+"0", true
		}
		if !found {
			slices.Sort(out)
			return out, nil
		}
	}
}

// Events iterates over the events with a higher number, in order.
func (r *Repo) Events(ctx context.Context, after int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			n := 0
			for e, err := range r.store.Read(ctx).Events(after, 64) {
				if err != nil {
					yield(Event{}, fmt.Errorf("events of %s: %w", r.did, err))
					return
				}
				n++
				after = e.Seq
				e.Body = slices.Clone(e.Body)
				if !yield(e, nil) {
					return
				}
			}
			if n < 64 {
				return
			}
		}
	}
}

// Changed returns a channel that is closed after the next transaction that this Repo writes, or finds that another process has
// written (within a second, see [Store].Shared). Take it before looking at [Repo.Events], so that none is missed.
func (r *Repo) Changed() <-chan struct{} { return *r.changed.Load() }

func (r *Repo) wake() {
	next := make(chan struct{})
	close(*r.changed.Swap(&next))
}

// Seq is the number of the newest event ever made.
func (r *Repo) Seq(ctx context.Context) (int64, error) {
	h, err := r.store.Read(ctx).Head()
	if err != nil {
		return 0, fmt.Errorf("read the head of %s: %w", r.did, err)
	}
	return h.Seq, nil
}

// OldestEvent is the oldest event that is kept; complete says that none before it was ever dropped. Errors: [ErrNotFound].
func (r *Repo) OldestEvent(ctx context.Context) (seq int64, complete bool, err error) {
	for e, err := range r.store.Read(ctx).Events(0, 1) {
		if err != nil {
			return 0, false, fmt.Errorf("events of %s: %w", r.did, err)
		}
		return e.Seq, bytes.Contains(e.Body, []byte("\x65since\xf6")), nil // the first commit follows on none
	}
	return 0, false, fmt.Errorf("events of %s: %w", r.did, ErrNotFound)
}

// JumpSeq raises the number that the next event gets at least, for a repository that was restored from a backup after
// its followers have seen higher numbers. A number that is not higher than the present one changes nothing. Errors: [ErrSeq].
func (r *Repo) JumpSeq(ctx context.Context, seq int64) error {
	if err := checkSeq(seq); err != nil {
		return fmt.Errorf("raise the event number of %s: %w", r.did, err)
	}
	err := r.submitBulk(ctx, func(s Reader, part func(*Changes) error) error {
		h, err := s.Head()
		if err != nil || seq <= h.Seq {
			return err
		}
		h.Seq = seq
		return part(&Changes{Head: &h})
	})
	if err != nil {
		return fmt.Errorf("raise the event number of %s: %w", r.did, err)
	}
	return nil
}

// MaxSeq is the highest number that [Repo.JumpSeq] and [Repo.Resync] take; as microseconds, of the year 2255. Numbers can't fall again, and
// above 1<<53, for which it leaves room, followers written in JavaScript don't tell them apart.
const MaxSeq = 1<<53 - 1<<40

func checkSeq(seq int64) error {
	if seq > MaxSeq {
		return fmt.Errorf("%w: %d; numbers are microseconds since 1970, at most %d", ErrSeq, seq, int64(MaxSeq))
	}
	return nil
}
