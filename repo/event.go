package repo

import "time"

// Limits of a #commit frame; a larger change is announced by #sync.
const (
	maxEventOps    = 200
	maxEventBlocks = 2_000_000
)

// change is what an event tells.
type change struct {
	did     string
	commit  CID
	block   []byte
	rev     TID
	since   TID
	prev    CID // root of the tree before
	time    time.Time
	results []Result
	nodes   []*nodeData
	records [][]byte
	created []CID // of records, in the order of records
}

// frame is the whole WebSocket message of com.atproto.sync.subscribeRepos for a change.
func (c *change) frame(seq int64) []byte {
	size := 1024 + len(c.block)
	for _, n := range c.nodes {
		size += len(n.raw) + cidLen + 4
	}
	for _, v := range c.records {
		size += len(v) + cidLen + 4
	}
	if len(c.results) > maxEventOps || size > maxEventBlocks {
		return c.syncFrame(seq)
	}
	blocks := appendCARHeader(make([]byte, 0, size), c.commit)
	blocks = appendCARBlock(blocks, c.commit, c.block)
	for _, n := range c.nodes {
		blocks = appendCARBlock(blocks, n.cid, n.raw)
	}
	for i, v := range c.records {
		blocks = appendCARBlock(blocks, c.created[i], v)
	}
	b := frameHeader(make([]byte, 0, size+512+128*len(c.results)), "#commit")
	fields := uint64(11)
	if c.prev.Defined() {
		fields++
	}
	b = appendHead(b, majorMap, fields)
	b = c.appendOps(appendText(b, "ops"))
	b = appendText(appendText(b, "rev"), c.rev.String())
	b = appendHead(appendText(b, "seq"), majorUint, uint64(seq))
	b = appendText(appendText(b, "repo"), c.did)
	b = appendText(appendText(b, "time"), formatTime(c.time))
	b = appendHead(appendText(b, "blobs"), majorArray, 0)
	if b = appendText(b, "since"); c.since == 0 {
		b = append(b, cborNull)
	} else {
		b = appendText(b, c.since.String())
	}
	b = appendBytes(appendText(b, "blocks"), blocks)
	b = appendLink(appendText(b, "commit"), c.commit)
	b = appendBool(appendText(b, "rebase"), false)
	b = appendBool(appendText(b, "tooBig"), false)
	if c.prev.Defined() {
		b = appendLink(appendText(b, "prevData"), c.prev)
	}
	return b
}

func (c *change) appendOps(b []byte) []byte {
	b = appendHead(b, majorArray, uint64(len(c.results)))
	for _, r := range c.results {
		fields := uint64(3)
		if r.Prev.Defined() {
			fields++
		}
		b = appendHead(b, majorMap, fields)
		b = appendLink(appendText(b, "cid"), r.CID)
		b = appendText(appendText(b, "path"), r.Collection+"/"+r.RKey)
		if r.Prev.Defined() {
			b = appendLink(appendText(b, "prev"), r.Prev)
		}
		b = appendText(appendText(b, "action"), string(r.Action))
	}
	return b
}

func (c *change) syncFrame(seq int64) []byte {
	blocks := appendCARBlock(appendCARHeader(nil, c.commit), c.commit, c.block)
	b := frameHeader(nil, "#sync")
	b = appendHead(b, majorMap, 5)
	b = appendText(appendText(b, "did"), c.did)
	b = appendText(appendText(b, "rev"), c.rev.String())
	b = appendHead(appendText(b, "seq"), majorUint, uint64(seq))
	b = appendText(appendText(b, "time"), formatTime(c.time))
	return appendBytes(appendText(b, "blocks"), blocks)
}

func frameHeader(b []byte, kind string) []byte {
	b = appendHead(b, majorMap, 2)
	b = appendText(appendText(b, "t"), kind)
	return appendHead(appendText(b, "op"), majorUint, 1)
}

func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
