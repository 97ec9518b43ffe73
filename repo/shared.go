package repo

import (
	"context"
	"fmt"
	"time"
)

const (
	lookEvery = 500 * time.Millisecond
	lookLimit = 10 * time.Second
)

// Foreign counts how often this Repo found a commit that it had not made: another process writes the repository (see
// [Store].Shared). What a program keeps in memory of the repository is good while the number is the one from before it was read; a
// [Guard] that compares [Snapshot.Foreign] makes sure of it. It also rises after a commit whose outcome was not learned.
func (r *Repo) Foreign() uint64 { return r.foreign.Load() }

// Look calls f in the writer, under the write lock, with the repository as it is; nothing is written. f must be quick and must not
// call the Repo. Its error is returned, wrapped; others are those of Apply.
func (r *Repo) Look(ctx context.Context, f func(Snapshot) error) error {
	req := newRequest(ctx)
	req.look = f
	if err := r.submit(ctx, req); err != nil {
		return fmt.Errorf("look at %s: %w", r.did, err)
	}
	return nil
}

// found compares the head that the writer finds under the lock with the one that it left.
func (r *Repo) found(h Head) {
	if *r.last.Load() != h.CID {
		r.foreign.Add(1)
		r.last.Store(&h.CID)
	}
}

// watch looks for commits of other processes; the writer then finds them under the lock, and wakes those who wait.
func (r *Repo) watch() {
	running, stop := context.WithCancel(context.Background())
	defer stop()
	r.running.Go(func() {
		<-r.stop
		stop()
	})
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(running, lookLimit)
		h, err := r.store.Read(ctx).Head()
		if err == nil && h.CID != *r.last.Load() {
			err = r.Look(ctx, func(Snapshot) error { return nil })
		}
		cancel()
		if err != nil {
			r.log.Debug("looking for commits of other processes", "did", r.did, "error", err)
		}
	}
}

// warm takes the nodes on the way to a key into the cache, when one of them isn't there: all of them by one
// question to a store that is far away.
func (g *group) warm(key string) error {
	if !g.r.store.Shared() {
		return nil
	}
	id, height := g.head.Root, g.head.Height
	for {
		n := g.r.nodes.get(id)
		if n == nil {
			break
		}
		if id = n.kidFor(key); !id.Defined() {
			return nil
		}
		height--
	}
	nodes, err := g.s.Path(key, height)
	if err != nil {
		return fmt.Errorf("the way to %s: %w", key, err)
	}
	for _, n := range nodes {
		if d, err := decodeNode(n.Data); err == nil { // one that is damaged is met again, and told of, when it is asked for
			d.cid, d.rev = RecordCID(n.Data), n.Rev
			g.r.nodes.put(d)
		}
	}
	return nil
}
