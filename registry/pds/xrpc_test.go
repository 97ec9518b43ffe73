package pds

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/repo"
)

// TestBadAnswers gives a reader what a broken or hostile PDS may answer: no kind of it is a 4xx or 500 of ours, and none is believed.
func TestBadAnswers(t *testing.T) {
	t.Parallel()
	cid := repo.BlobCID([]byte("right")).String()
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"html", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") }},
		{"empty", func(w http.ResponseWriter, r *http.Request) {}},
		{"a gigabyte announced", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "1000000000") }},
		{"a gigabyte sent", func(w http.ResponseWriter, r *http.Request) {
			for b := make([]byte, 1<<20); r.Context().Err() == nil; {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}},
		{"unauthorized", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) }},
		{"forbidden", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) }},
		{"teapot", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) }},
		{"error", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
		{"other bytes", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `["wrong"]`) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewServer(c.answer)
			defer srv.Close()
			p := pds{base: srv.URL, http: withoutRedirects(nil), clock: time.Now}
			_, err1 := p.latestCommit(t.Context(), "did:plc:x")
			list, err2 := p.listRecords(t.Context(), "did:plc:x", "io.atcr.tag", "")
			if err2 == nil {
				_, err2 = list.records("", func(record) error { return nil })
				list.Close()
			}
			_, err3 := p.getRecord(t.Context(), "did:plc:x", "io.atcr.tag", "x")
			_, err4 := p.blob(t.Context(), "did:plc:x", cid)
			for i, err := range []error{err1, err2, err3, err4} {
				if !errors.Is(err, registry.ErrUnavailable) && !(i == 3 && errors.Is(err, errTooLarge)) {
					t.Errorf("call %d: %v", i, err)
				}
			}
		})
	}
}

// TestSlowAnswer ends with the caller's patience.
func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, " ")
			w.(http.Flusher).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	}))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	p := pds{base: srv.URL, http: withoutRedirects(nil), clock: time.Now}
	if _, err := p.latestCommit(ctx, "did:plc:x"); !errors.Is(err, registry.ErrUnavailable) {
		t.Error(err)
	}
}
