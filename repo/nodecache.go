package repo

import "sync"

const nodeCacheSize = 4096

// nodeCache keeps decoded nodes by hash. It is never stale, since a node is only asked for by the hash its parent shows.
// Two generations stand in for an order of use: what is met in the old one moves to the new one.
type nodeCache struct {
	mu       sync.Mutex
	size     int
	cur, old map[CID]*nodeData
}

func newNodeCache(size int) *nodeCache {
	return &nodeCache{size: size, cur: map[CID]*nodeData{}}
}

func (c *nodeCache) get(id CID) *nodeData {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.cur[id]; n != nil {
		return n
	}
	n := c.old[id]
	if n != nil {
		c.add(n)
	}
	return n
}

func (c *nodeCache) put(n *nodeData) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(n)
}

func (c *nodeCache) add(n *nodeData) {
	if len(c.cur) >= c.size {
		c.old, c.cur = c.cur, make(map[CID]*nodeData, c.size)
	}
	c.cur[n.cid] = n
}
