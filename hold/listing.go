package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// Limits of going through a user's manifest records.
const (
	listPage      = 100
	maxListAnswer = 4 << 20 // a page that would be longer is asked for in smaller ones
	maxCursor     = 2 << 10
	maxSearch     = 100 // pages, while somebody waits
	searchWait    = 30 * time.Second
	maxSearches   = 8    // at once, one for each user
	maxListings   = 1000 // that are remembered to be gone on with
)

// listing is how far somebody has come in a user's manifest records.
type listing struct {
	url    string // of the PDS
	cursor string
	page   int // records that a page has at most
	began  time.Time
	ended  bool
	unread error // why one that may name this hold could not be read
}

// next reads the page at which the listing stands; records that break their lexicon are left out. It is the caller's to go on to the
// page after it. Errors: PDSUnavailable.
func (p *pds) next(ctx context.Context, l *listing) (list []*manifestRecord, after string, err error) {
	var b []byte
	for {
		q := url.Values{"repo": {p.did}, "collection": {atcr.NSIDManifest}, "limit": {fmt.Sprint(l.page)}}
		if l.cursor != "" {
			q.Set("cursor", l.cursor)
		}
		b, err = p.get(ctx, "com.atproto.repo.listRecords", q, maxListAnswer)
		if !errors.Is(err, httpx.ErrTooLarge) || l.page == 1 {
			break
		}
		l.page = max(l.page/4, 1)
	}
	if err != nil {
		return nil, "", err
	}
	var page struct {
		Cursor  string `json:"cursor"`
		Records []struct {
			URI   string          `json:"uri"`
			Value json.RawMessage `json:"value"`
		} `json:"records"`
	}
	if err := json.Unmarshal(b, &page); err != nil || len(page.Cursor) > maxCursor {
		return nil, "", unavailable("PDSUnavailable", "listRecords of %s can't be read", p.url)
	}
	for _, r := range page.Records {
		m := &manifestRecord{URI: r.URI}
		rkey, ours := strings.CutPrefix(r.URI, p.manifestURI(""))
		if _, err := syntax.ParseRecordKey(rkey); err != nil || !ours || json.Unmarshal(r.Value, &m.Manifest) != nil {
			continue
		}
		list = append(list, m)
	}
	if len(page.Records) == 0 || page.Cursor == l.cursor {
		page.Cursor = ""
	}
	return list, page.Cursor, nil
}

// goOn makes the page after the one that was read the next one.
func (l *listing) goOn(after string) { l.cursor, l.ended = after, after == "" }

// search goes through a user's manifest records for one. Errors: errNoRecord; PDSUnavailable, also when there are more than 10 000 or
// the PDS takes longer than 30 s, since nobody may conclude from a list that was cut.
func (p *pds) search(ctx context.Context, repository string, d digest.Digest) (*manifestRecord, error) {
	done, ok := p.by.searching.Try(p.did)
	if !ok {
		return nil, unavailable("Busy", "the manifest records of %s are being gone through already", p.did)
	}
	defer done()
	select {
	case p.by.searches <- struct{}{}:
		defer func() { <-p.by.searches }()
	default:
		return nil, unavailable("Busy", "the manifest records of too many are being gone through")
	}
	ctx, cancel := context.WithTimeout(ctx, searchWait)
	defer cancel()
	l := &listing{page: listPage}
	for range maxSearch {
		list, after, err := p.next(ctx, l)
		if err != nil {
			return nil, p.late(ctx, err)
		}
		for _, m := range list {
			if m.Repository == repository && m.OCIDigest() == d {
				return m, nil
			}
		}
		if l.goOn(after); l.ended {
			return nil, errNoRecord
		}
	}
	return nil, unavailable("PDSUnavailable", "%s has more than %d pages of manifest records", p.did, maxSearch)
}

// late names the error of a PDS that took longer than it is given.
func (p *pds) late(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return unavailable("PDSUnavailable", "the PDS of %s (%s) takes too long to list its manifest records", p.did, p.url)
	}
	return err
}

// listings are those that time did not suffice for, by DID.
type listings struct {
	mu    sync.Mutex
	byDID map[string]*listing
}

// take returns the listing to go on with, or one that begins now.
func (s *listings) take(did, url string, now time.Time) *listing {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.byDID[did]
	delete(s.byDID, did)
	if l == nil || l.url != url {
		l = &listing{url: url, page: listPage, began: now}
	}
	return l
}

func (s *listings) keep(did string, l *listing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byDID == nil || len(s.byDID) >= maxListings { // they begin anew
		s.byDID = map[string]*listing{}
	}
	s.byDID[did] = l
}
