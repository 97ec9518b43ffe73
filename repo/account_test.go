package repo_test

import (
	"bytes"
	"testing"

	comatproto "github.com/bluesky-social/indigo/api/atproto"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// TestAnnounceAccount: indigo reads the events, in canonical form; the repository stays as it is, and commits follow on.
func TestAnnounceAccount(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	r := repotest.Open(t, s, repo.Options{})
	before, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last, err := r.Seq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const header = "\xa2at\x68#accountbop\x01"
	for _, status := range []string{"", "deactivated", ""} {
		if err := r.AnnounceAccount(t.Context(), status); err != nil {
			t.Fatal(err)
		}
		all := events(t, r, last)
		if len(all) != 1 || !bytes.HasPrefix(all[0].Body, []byte(header)) {
			t.Fatalf("%d events, %q", len(all), all[0].Body)
		}
		var e comatproto.SyncSubscribeRepos_Account
		body := all[0].Body[len(header):]
		if err := e.UnmarshalCBOR(bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		said := ""
		if e.Status != nil {
			said = *e.Status
		}
		if e.Did != r.DID() || e.Seq != all[0].Seq || e.Seq <= last || e.Active != (status == "") || said != status || e.Time == "" {
			t.Errorf("%q: %+v", status, e)
		}
		var again bytes.Buffer
		if err := e.MarshalCBOR(&again); err != nil || !bytes.Equal(again.Bytes(), body) {
			t.Errorf("%q: indigo writes it as %q, not %q (%v)", status, again.Bytes(), body, err)
		}
		last = e.Seq
	}
	if h, err := r.Head(t.Context()); err != nil || h.CID != before.CID {
		t.Errorf("the head has moved: %+v, %v", h, err)
	}
	c, err := r.Apply(t.Context(), []repo.Write{write(t, repo.Put, "k", "x")})
	if err != nil || c.Seq <= last || c.Since != before.Rev {
		t.Errorf("%+v, %v", c, err)
	}
	repotest.Check(t, r, s)

	quiet := repotest.Open(t, memstore.New(), repo.Options{KeepEvents: -1})
	if err := quiet.AnnounceAccount(t.Context(), ""); err != nil || len(events(t, quiet, 0)) != 0 {
		t.Errorf("a repository without events: %v", err)
	}
}
