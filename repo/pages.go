package repo

import "io"

const (
	readPage  = 16 << 10
	readPages = 256 // 4 MiB in all
	pageTrial = 256
	pageRest  = 16 * pageTrial
)

// pageReader reads a file by whole pages and keeps some of them. The blocks of a CAR that isn't in streaming order are still
// near each other as a rule (layers of nodes, then all records), and a system call for each block is much of reading it.
// Where they are not, most of a page is read for nothing: then blocks are read alone for a while.
type pageReader struct {
	r     io.ReaderAt
	reads int // by pages, in this trial
	fresh int // of them those that needed a page to be read
	alone int // reads that are left before pages are tried again
	pages [readPages]struct {
		at   int64 // of the file; meaningless without data
		data []byte
	}
}

// ReadAt is io.ReaderAt's, except that it is not safe for concurrent use.
func (p *pageReader) ReadAt(b []byte, off int64) (n int, err error) {
	if len(b) > readPage {
		return p.r.ReadAt(b, off)
	}
	if p.alone > 0 {
		p.alone--
		return p.r.ReadAt(b, off)
	}
	if p.reads++; p.reads > pageTrial {
		if 4*p.fresh > p.reads {
			p.alone = pageRest
		}
		p.reads, p.fresh = 0, 0
	}
	for n < len(b) {
		page := off / readPage
		slot := &p.pages[page%readPages]
		if at := page * readPage; len(slot.data) == 0 || slot.at != at {
			if slot.data == nil {
				slot.data = make([]byte, readPage)
			}
			slot.at = at
			p.fresh++
			got, err := p.r.ReadAt(slot.data[:readPage], at)
			slot.data = slot.data[:got]
			if err != nil && err != io.EOF {
				slot.data = slot.data[:0]
				return n, err
			}
		}
		from := int(off - slot.at)
		if from >= len(slot.data) {
			return n, io.EOF
		}
		got := copy(b[n:], slot.data[from:])
		n, off = n+got, off+int64(got)
	}
	return n, nil
}
