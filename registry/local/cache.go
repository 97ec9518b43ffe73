package local

import (
	"container/list"
	"hash/maphash"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/registry"
)

// cache keeps answers by least recent use, bounded in bytes: the digest that a tag points to, the manifest of a digest, and
// the size of a blob that a repository has.
//
// Only readers fill it. A reader takes a ticket before it asks the repository, and its answer is taken only if nothing was
// dropped from the shard meanwhile; a writer drops after its commit. So an answer from before a commit can't come in after it.
type cache struct {
	seed   maphash.Seed
	shards [16]shard
}

type cacheKey struct {
	repository string
	ref        string // a digest has a ':', a tag can't
	blob       bool   // ref is a blob's digest, not a manifest's
}

func tagEntry(repository, tag string) cacheKey { return cacheKey{repository: repository, ref: tag} }

func manifestEntry(repository string, d digest.Digest) cacheKey {
	return cacheKey{repository: repository, ref: d.String()}
}

func blobEntry(repository string, d digest.Digest) cacheKey {
	return cacheKey{repository: repository, ref: d.String(), blob: true}
}

type cacheEntry struct {
	key      cacheKey
	digest   digest.Digest     // of a tag
	manifest registry.Manifest // of a digest
	blobSize int64             // of a blob
	cost     int64
}

type shard struct {
	mu      sync.Mutex
	entries map[cacheKey]*list.Element
	recent  list.List
	size    int64
	limit   int64
	drops   uint64
}

// ticket says what a shard had dropped when its holder looked.
type ticket uint64

func newCache(limit int64) *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].entries = make(map[cacheKey]*list.Element)
		c.shards[i].limit = limit / int64(len(c.shards))
	}
	return c
}

func (c *cache) shard(k cacheKey) *shard {
	h := maphash.String(c.seed, k.ref) ^ maphash.String(c.seed, k.repository)<<1
	return &c.shards[h%uint64(len(c.shards))]
}

// get returns an entry, or nil and a ticket for put.
func (c *cache) get(k cacheKey) (*cacheEntry, ticket) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if el := s.entries[k]; el != nil {
		s.recent.MoveToFront(el)
		return el.Value.(*cacheEntry), 0
	}
	return nil, ticket(s.drops)
}

func (c *cache) put(e *cacheEntry, t ticket) {
	// What an entry costs besides its bytes: list, map, strings, headers. Collected garbage doubles all of it.
	e.cost = int64(len(e.manifest.Bytes)+len(e.key.repository)+2*len(e.key.ref)) + 768
	s := c.shard(e.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drops != uint64(t) || e.cost > s.limit {
		return
	}
	s.remove(e.key)
	s.entries[e.key] = s.recent.PushFront(e)
	for s.size += e.cost; s.size > s.limit; {
		s.remove(s.recent.Back().Value.(*cacheEntry).key)
	}
}

func (c *cache) drop(k cacheKey) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drops++
	s.remove(k)
}

func (s *shard) remove(k cacheKey) {
	if el := s.entries[k]; el != nil {
		s.size -= el.Value.(*cacheEntry).cost
		s.recent.Remove(el)
		delete(s.entries, k)
	}
}
