package pds_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/hostile"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds"
)

// What a page wrote before it broke is counted, once, so that an owner whose lists always break comes over the limit like any other.
// Until then its PDS is left alone for a while after each failure.
func TestPagesThatBreak(t *testing.T) {
	t.Parallel()
	const limit = 8 << 20
	s := newSiege(t, httpx.AnswersOptions{}, func(o *pds.Options) { o.OwnerBytes = limit })
	s.clock.freeze()
	o := s.Add(hostile.Party{Images: 1, Layers: 1})
	_, err := s.tags(t.Context(), o)
	must(t, err)
	s.Become(o.DID, hostile.Cut, hostile.Honest)
	ask := func() error {
		_, err := s.repo(o).Blob(t.Context(), digest.FromString("of nobody"))
		return err
	}
	each := 0 // bytes of a record
	for i := 0; ; i++ {
		err := ask()
		layers := s.count("pds_layer", o)
		known, counted, cerr := s.backend.Taken(t.Context())
		if cerr != nil || known != counted {
			t.Errorf("%d bytes are taken, the database says %d: %v", known, counted, cerr)
		}
		if errors.Is(err, registry.ErrDenied) && i > 1 {
			if layers != 0 {
				t.Errorf("%d layers are kept", layers)
			}
			break
		}
		wantKind(t, err, registry.ErrUnavailable)
		var records, bytes, rows, layerBytes int
		must(t, s.db.Read().QueryRow(`select list_records, list_bytes, layer_bytes, (select count(*) from pds_manifest where owner = did
			and pds_manifest.gen = pds_owner.gen + 1) from pds_owner where did = $1`, o.DID).Scan(&records, &bytes, &layerBytes, &rows))
		if each == 0 && rows > 0 {
			each = bytes / rows
		}
		if records != 1 || rows < 2 || bytes != rows*each || layerBytes != layers*400 || i > 10 {
			t.Fatalf("try %d: %d records are listed; counted are %d bytes of %d rows, and %d of %d layers",
				i, records, bytes, rows, layerBytes, layers)
		}
		if layers*400 > limit+1<<20 {
			t.Fatalf("%d bytes of layers are kept", layers*400)
		}
		asked := s.Calls(o.DID, listRecords)
		wantKind(t, ask(), registry.ErrUnavailable)
		if s.Calls(o.DID, listRecords) != asked {
			t.Error("a PDS that has just failed was asked")
		}
		s.clock.advance(6 * time.Second)
	}
}

// as returns a context of a request from an address.
func as(ctx context.Context, addr string) (out context.Context) {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	r.RemoteAddr = addr + ":1"
	httpx.WithClient(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { out = r.Context() }), httpx.VisitOptions{}).
		ServeHTTP(httptest.NewRecorder(), r)
	return out
}

// fill takes a MiB of files for the shares of ctx, n times, until free is called.
func (s *siege) fill(ctx context.Context, n int) (free func()) {
	s.t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, 900_000))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	s.t.Cleanup(srv.Close)
	ctx, free = context.WithCancel(ctx)
	s.t.Cleanup(free)
	c := s.answers.Client(&http.Client{Transport: &http.Transport{}})
	for range n {
		go func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
			if err != nil {
				return
			}
			if resp, err := c.Do(req); err == nil {
				_, _ = httpx.ReadLimited(resp, 4<<20)
			}
		}()
	}
	s.used(int64(n) << 20)
	return free
}

func (s *siege) used(want int64) {
	s.t.Helper()
	must(s.t, realtest.WaitFor(time.Minute, func() error {
		if _, files := s.answers.Used(); files != want {
			return fmt.Errorf("%d bytes of files are taken, not %d", files, want)
		}
		return nil
	}))
}

// Who has used up the share of his own address does not have others' questions fail by asking first; and that there was no room here
// does not make a PDS a silent one.
func TestSharedWorkIsNobodysShare(t *testing.T) {
	t.Parallel()
	s := newSiege(t, httpx.AnswersOptions{Memory: 64 << 10, Files: 16 << 20, Wait: 100 * time.Millisecond, Window: time.Minute})
	s.clock.freeze()
	evil := as(t.Context(), "192.0.2.7")
	free := s.fill(evil, 4)
	o := s.Add(hostile.Party{Images: 60, Layers: 160}) // a page of more than a MiB
	if tags, err := s.tags(evil, o); err != nil || len(tags) != 60 {
		t.Errorf("%d tags, %v", len(tags), err)
	}
	free()
	s.used(0)

	o = s.Add(hostile.Party{Images: 60, Layers: 160})
	free = s.fill(httpx.WithShare(t.Context(), o.DID), 4)
	_, err := s.tags(t.Context(), o)
	if wantKind(t, err, registry.ErrUnavailable); !errors.Is(err, httpx.ErrNoPlace) {
		t.Error(err)
	}
	free()
	s.used(0)
	if tags, err := s.tags(as(t.Context(), "192.0.2.8"), o); err != nil || len(tags) != 60 {
		t.Errorf("%d tags, %v", len(tags), err)
	}
}
