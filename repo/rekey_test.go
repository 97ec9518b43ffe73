package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/repo"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// signers tells for each event what it is, and a commit's number by the key that signed it: "1 1 identity 2".
func signers(t *testing.T, s repo.Store, keys ...atcrypto.PublicKey) string {
	t.Helper()
	var all []string
	last := int64(0)
	for e, err := range s.Read(t.Context()).Events(0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		ev, err := realtest.ParseEvent(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		if e.Seq <= last || ev.Seq != e.Seq {
			t.Errorf("event %d (%d) after %d", e.Seq, ev.Seq, last)
		}
		last = e.Seq
		var blocks []byte
		switch {
		case ev.Commit != nil:
			blocks = ev.Commit.Blocks
		case ev.Sync != nil:
			blocks = ev.Sync.Blocks
		default:
			all = append(all, strings.TrimPrefix(ev.Kind, "#"))
			continue
		}
		c, _, err := indigo.LoadCommitFromCAR(t.Context(), bytes.NewReader(blocks))
		if err != nil {
			t.Fatal(err)
		}
		by := "?"
		for i, k := range keys {
			if c.VerifySignature(k) == nil {
				by = fmt.Sprint(i + 1)
			}
		}
		all = append(all, by)
	}
	return strings.Join(all, " ")
}

// TestRekey: beside writers that never rest, all commits are by the old key, then the identity event, then all by the new one.
func TestRekey(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := memstore.New()
	r := repotest.Open(t, s, repo.Options{})
	old := r.PublicKey()
	var wg sync.WaitGroup
	stop, before := make(chan struct{}), make(chan struct{}, 4)
	for i := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				if _, err := r.Apply(ctx, []repo.Write{write(t, repo.Put, fmt.Sprintf("w%d", i), fmt.Sprint(n))}); err != nil {
					t.Error(err)
					return
				}
				if n == 5 {
					before <- struct{}{}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range 4 {
		<-before
	}
	key := newKey(t)
	pub := public(t, key)
	c, err := r.Rekey(ctx, key, "h.test")
	if err != nil || c.Seq == 0 || c.Data != c.Prev {
		t.Fatalf("%+v, %v", c, err)
	}
	if !r.PublicKey().Equal(pub) {
		t.Error("the old key is still shown")
	}
	if _, err := r.Apply(ctx, []repo.Write{write(t, repo.Put, "after", "x")}); err != nil {
		t.Fatal(err)
	}
	close(stop)
	wg.Wait()
	got := signers(t, s, old, pub)
	first, second, ok := strings.Cut(got, " identity ")
	if !ok || strings.Trim(first, "1 ") != "" || strings.Trim(second, "2 ") != "" || len(first) < 4*6*2 || len(second) < 3 {
		t.Errorf("signed: %s", got)
	}
	if signed, err := r.Signed(ctx); err != nil || !signed {
		t.Error(signed, err)
	}
	repotest.Check(t, r, s)
}

// TestRekeyFails: when the transaction fails the new key signs all the same, and what comes next is the identity event,
// once, whoever writes.
func TestRekeyFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what, want string
		next       func(*testing.T, *repo.Repo) error
	}{
		{"a commit", "1 identity 2 2", func(t *testing.T, r *repo.Repo) error {
			_, err := r.Apply(t.Context(), []repo.Write{write(t, repo.Put, "a", "2")})
			return err
		}},
		{"signed anew", "1 identity 2 identity 2", func(t *testing.T, r *repo.Repo) error {
			_, err := r.Resign(t.Context(), "h.test")
			return err
		}},
		{"a bulk change", "1 identity 2 2", func(t *testing.T, r *repo.Repo) error { // its #sync is signed, too
			_, err := r.Resync(t.Context(), 0)
			return err
		}},
	} {
		g := &gated{Store: memstore.New()}
		r := repotest.Open(t, g, repo.Options{})
		old := r.PublicKey()
		key := newKey(t)
		pub := public(t, key)
		g.fail.Store(true)
		if _, err := r.Rekey(t.Context(), key, "h.test"); !errors.Is(err, errCommit) || g.failed.Load() != 1 {
			t.Fatal(err)
		}
		if err := c.next(t, r); !errors.Is(err, errCommit) {
			t.Fatal(err)
		}
		if got := signers(t, g, old, pub); got != "1" {
			t.Errorf("after transactions that failed: %s", got)
		}
		if !r.PublicKey().Equal(pub) {
			t.Error("the old key is still in use")
		}
		g.fail.Store(false)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 50 { // a transaction that does nothing pays nothing; every second one comes to one
			if _, err := r.Apply(ctx, nil); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := c.next(t, r); err != nil {
				t.Fatal(err)
			}
		}
		if got := signers(t, g, old, pub); got != c.want {
			t.Errorf("%s: signed %s, want %s", c.what, got, c.want)
		}
		repotest.Check(t, r, g)
	}
}

// TestRekeyRefused: what is refused changes nothing.
func TestRekeyRefused(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	r := repotest.Open(t, s, repo.Options{})
	old := r.PublicKey()
	if _, err := r.Rekey(t.Context(), nil, ""); !errors.Is(err, repo.ErrInvalidOptions) {
		t.Error(err)
	}
	key := newKey(t)
	pub := public(t, key)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Rekey(ctx, key, ""); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := r.Apply(t.Context(), []repo.Write{write(t, repo.Put, "a", "1")}); err != nil {
		t.Fatal(err)
	}
	if got := signers(t, s, old, pub); got != "1 1" || !r.PublicKey().Equal(old) {
		t.Errorf("signed: %s", got)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Rekey(t.Context(), key, ""); !errors.Is(err, repo.ErrClosed) || !r.PublicKey().Equal(old) {
		t.Error(err)
	}
}
