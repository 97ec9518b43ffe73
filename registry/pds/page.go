package pds

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/atcr-dev/atcr/internal/httpx"
)

const (
	methodListRecords = "com.atproto.repo.listRecords"
	maxRecord         = 4 << 20 // JSON of one record within a page
)

// page is an answer of listRecords that was read, but not yet looked into.
type page struct {
	*httpx.Answer
	base  string
	limit int // records asked for
}

// listRecords asks for one page. A page that is too large is asked for in smaller ones. The caller closes it.
func (p pds) listRecords(ctx context.Context, did, collection, cursor string) (page, error) {
	for limit := pageSize; ; limit /= 10 {
		q := url.Values{"repo": {did}, "collection": {collection}, "limit": {strconv.Itoa(limit)}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		answer, err := p.spool(ctx, methodListRecords, q, maxPageAnswer)
		if errors.Is(err, errTooLarge) && limit > 1 {
			continue
		}
		if err != nil {
			return page{}, err
		}
		return page{answer, p.base, limit}, nil
	}
}

// spool is get for what may be long.
func (p pds) spool(ctx context.Context, method string, q url.Values, limit int64) (*httpx.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := p.ask(ctx, method, q)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, p.judge(method, readAnswer(p.base, method, resp, maxAnswer, p.clock(), nil))
	}
	answer, err := httpx.Spool(resp, limit)
	if err != nil {
		return nil, takeAnswer(p.base, method, resp, nil, err, p.clock(), nil)
	}
	return answer, nil
}

// records gives each record of the page to each, and returns the cursor of the next page: it is empty when the list ends. No more than
// one record is held at a time. Errors: the first of each; registry.ErrUnavailable for what is no page.
func (g page) records(cursor string, each func(record) error) (next string, err error) {
	next, err = g.parse(cursor, each)
	if mine := (eachError{}); errors.As(err, &mine) {
		return "", mine.error
	}
	if err != nil {
		return "", silent(g.base, methodListRecords, fmt.Errorf("answer is no JSON of the method's form: %w", err))
	}
	return next, nil
}

func (g page) parse(cursor string, each func(record) error) (next string, err error) {
	r, err := g.Reader()
	if err != nil {
		return "", err
	}
	bounded := &io.LimitedReader{R: bufio.NewReaderSize(r, 32<<10), N: maxRecord} // set again after each record
	dec := json.NewDecoder(bounded)
	if err := expect(dec, '{'); err != nil {
		return "", err
	}
	n := 0
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return "", err
		}
		switch key {
		case "cursor":
			err = dec.Decode(&next)
		case "records":
			n, err = g.list(dec, bounded, each)
		default:
			var other json.RawMessage
			err = dec.Decode(&other)
		}
		if err != nil && bounded.N <= 0 {
			err = fmt.Errorf("one record takes more than %d bytes: %w", maxRecord, err)
		}
		if err != nil {
			return "", err
		}
		bounded.N = maxRecord
	}
	if err := expect(dec, '}'); err != nil {
		return "", err
	}
	if n == 0 || next == cursor {
		next = ""
	}
	return next, nil
}

func (g page) list(dec *json.Decoder, b *io.LimitedReader, each func(record) error) (n int, err error) {
	t, err := dec.Token()
	if err != nil || t == nil { // null is none
		return 0, err
	}
	if t != json.Delim('[') {
		return 0, fmt.Errorf("records is no list, but %v", t)
	}
	for dec.More() {
		if n++; n > g.limit {
			return n, fmt.Errorf("more records than the %d asked for", g.limit)
		}
		var r record
		if err := dec.Decode(&r); err != nil {
			return n, err
		}
		b.N = maxRecord
		if err := each(r); err != nil {
			return n, eachError{err}
		}
	}
	return n, expect(dec, ']')
}

// eachError is an error of the one who takes the records, not of the page.
type eachError struct{ error }

func (e eachError) Unwrap() error { return e.error }

func expect(dec *json.Decoder, want json.Delim) error {
	t, err := dec.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("%v stands where %v should", t, want)
	}
	return nil
}
