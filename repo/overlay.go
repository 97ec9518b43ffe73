package repo

// overlay is changes that are not in the store yet: of one request, or of a group of them. Nil entries are deletions.
type overlay struct {
	head     *Head
	records  map[string]*StoredRecord
	nodes    map[Place]*Node
	blobs    map[CID]StoredBlob
	dropRefs map[string]bool
	addRefs  map[string][]BlobRef
	events   []Event
}

func newOverlay() *overlay {
	return &overlay{
		records:  map[string]*StoredRecord{},
		nodes:    map[Place]*Node{},
		blobs:    map[CID]StoredBlob{},
		dropRefs: map[string]bool{},
		addRefs:  map[string][]BlobRef{},
	}
}

// add lays later changes over o.
func (o *overlay) add(later *overlay) {
	for k, v := range later.records {
		o.records[k] = v
	}
	for k, v := range later.nodes {
		o.nodes[k] = v
	}
	for k, v := range later.blobs {
		if _, ok := o.blobs[k]; !ok {
			o.blobs[k] = v
		}
	}
	for k := range later.dropRefs {
		o.dropRefs[k] = true
		delete(o.addRefs, k)
	}
	for k, v := range later.addRefs {
		o.addRefs[k] = v
	}
	o.events = append(o.events, later.events...)
}

func (o *overlay) changes() *Changes {
	c := &Changes{Head: o.head, Events: o.events}
	for path, rec := range o.records {
		if rec == nil {
			c.DropRecords = append(c.DropRecords, path)
		} else {
			c.PutRecords = append(c.PutRecords, *rec)
		}
	}
	for at, n := range o.nodes {
		if n == nil {
			c.DropNodes = append(c.DropNodes, at)
		} else {
			c.PutNodes = append(c.PutNodes, *n)
		}
	}
	for _, b := range o.blobs {
		c.PutBlobs = append(c.PutBlobs, b)
	}
	for path := range o.dropRefs {
		c.DropRefs = append(c.DropRefs, path)
	}
	for _, refs := range o.addRefs {
		c.AddRefs = append(c.AddRefs, refs...)
	}
	return c
}

// overlaid is a Reader that sees the nodes of an overlay.
type overlaid struct {
	Reader
	rows *overlay
}

func (o overlaid) Node(at Place) (Node, error) {
	if n, ok := o.rows.nodes[at]; ok {
		if n == nil {
			return Node{}, ErrNotFound
		}
		return *n, nil
	}
	return o.Reader.Node(at)
}
