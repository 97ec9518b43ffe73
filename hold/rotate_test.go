package hold_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/did-method-plc/go-didplc/didplc"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/hold/holdclient"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/realtest"
)

// signingKey that a PLC directory shows.
func signingKey(t *testing.T, plc, did string) atcrypto.PublicKey {
	t.Helper()
	who, err := identity.NewResolver(identity.ResolverOptions{PLCURL: plc, TestMode: true}).DIDs().LookupDID(t.Context(), syntax.DID(did))
	must(t, err)
	key, err := who.PublicKey()
	must(t, err)
	return key
}

// signer is the number, from 1, of the key that signed an event's commit; 0 for an event without one.
func signer(t *testing.T, e realtest.Event, keys []atcrypto.PublicKey) int {
	t.Helper()
	if e.Commit == nil {
		return 0
	}
	c, _, err := indigo.LoadCommitFromCAR(t.Context(), bytes.NewReader(e.Commit.Blocks))
	must(t, err)
	for i, k := range keys {
		if c.VerifySignature(k) == nil {
			return i + 1
		}
	}
	t.Fatalf("commit %s is signed by none of %d keys", e.Commit.Rev, len(keys))
	return 0
}

// checkLog: numbers rise, each commit follows on the one before it and is undone from its event alone, and the signer changes
// only directly after an #identity event, to the next key. It returns how many commits each key signed.
func checkLog(t *testing.T, events []realtest.Event, keys []atcrypto.PublicKey) []int {
	t.Helper()
	signed := make([]int, len(keys))
	now, rev, last, told := 1, "", int64(0), false
	for _, e := range events {
		if e.Seq <= last {
			t.Errorf("event %d after %d", e.Seq, last)
		}
		last = e.Seq
		if e.Kind == "#identity" {
			told = true
			continue
		}
		if e.Kind == "#account" {
			continue
		}
		if e.Commit == nil {
			t.Fatalf("event %s", e.Kind)
		}
		if e.Commit.PrevData != nil {
			if _, err := indigo.VerifyCommitMessage(t.Context(), e.Commit); err != nil {
				t.Errorf("commit %s: %v", e.Commit.Rev, err)
			}
			if e.Commit.Since == nil || *e.Commit.Since != rev {
				t.Errorf("commit %s does not follow on %s", e.Commit.Rev, rev)
			}
		}
		rev = e.Commit.Rev
		by := signer(t, e, keys)
		if by != now && (!told || by != now+1) {
			t.Fatalf("commit %s is by key %d after key %d, announced: %t", rev, by, now, told)
		}
		now, told = by, false
		signed[by-1]++
	}
	return signed
}

// runningPLCHold is a plcHold whose Run runs, with writers that never rest.
type runningPLCHold struct {
	*plcHold
	log     lockedBuffer
	written atomic.Int64
	end     func()
}

func newRunningPLCHold(t *testing.T, plc, owner string) *runningPLCHold {
	r := &runningPLCHold{plcHold: newPLCHold(t, plc, owner)}
	r.cfg.Log = slog.New(slog.NewTextHandler(&r.log, nil))
	return r
}

func (r *runningPLCHold) run() {
	r.start()
	ctx, stop := context.WithCancel(r.t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if err := r.server.Run(ctx); err != nil {
			r.t.Error(err)
		}
	})
	for i := range 3 {
		all.Go(func() {
			if err := writeOn(ctx, r.server, fmt.Sprintf("io.atcr.test%d", i), &r.written); err != nil {
				r.t.Errorf("a write beside the rotation: %v", err)
			}
		})
	}
	r.end = sync.OnceFunc(func() { stop(); all.Wait() })
	r.t.Cleanup(r.end) // before plcHold's, which closes the server
}

// more waits for further commits.
func (r *runningPLCHold) more() {
	r.t.Helper()
	from := r.written.Load()
	must(r.t, realtest.WaitFor(time.Minute, func() error {
		if n := r.written.Load() - from; n < 10 {
			return fmt.Errorf("%d commits", n)
		}
		return nil
	}))
}

// stored are all events in the hold's log.
func (r *runningPLCHold) stored() []realtest.Event {
	r.t.Helper()
	return storedEvents(r.t, r.cfg)
}

func storedEvents(t *testing.T, cfg hold.Config) (all []realtest.Event) {
	t.Helper()
	o, err := datadir.ReadRepo(t.Context(), dataDir(t, cfg))
	must(t, err)
	for e, err := range o.Repo.Events(t.Context(), 0) {
		must(t, err)
		ev, err := realtest.ParseEvent(e.Body)
		must(t, err)
		all = append(all, ev)
	}
	must(t, o.Close())
	return all
}

// TestRotateRunning: the signing key of a hold that runs, with a follower, writers and clients of the reference PDS, is
// rotated by a call and then through its folder: the follower sees what it must in the right order, and nobody else sees anything.
func TestRotateRunning(t *testing.T) {
	real := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	h := newRunningPLCHold(t, real.PLC, real.Account("alice").DID)
	h.run()
	did, alice := h.server.DID(), real.Account("alice").DID
	keys := []atcrypto.PublicKey{signingKey(t, real.PLC, did)}

	// The follower: at each #identity event the directory shows what verifies the commits after it.
	follower := realtest.Subscribe(t, h.front.URL, 0)
	var seen []realtest.Event
	shown := []atcrypto.PublicKey{keys[0]}
	follow := func(kind string) {
		t.Helper()
		for limit := time.Now().Add(60 * time.Second); ; {
			if time.Now().After(limit) {
				t.Fatalf("no %s among %d events", kind, len(seen))
			}
			e, err := follower.Next(time.Minute)
			must(t, err)
			seen = append(seen, e)
			if e.Kind == "#identity" {
				shown = append(shown, signingKey(t, real.PLC, did))
			}
			if e.Kind == kind {
				return
			}
		}
	}
	early := real.ServiceAuth(t, "alice", did, "io.atcr.hold.getQuota")
	c := holdclient.New(holdclient.Options{DID: did, URL: h.front.URL, HasHoldService: true, HTTP: http.DefaultClient,
		Token: func(_ context.Context, aud, lxm string) (string, error) {
			return real.ServiceAuth(t, "alice", aud, lxm), nil
		}})
	blob := data(7, 1000)
	d := digest.FromBytes(blob)
	id, err := c.InitiateUpload(t.Context(), d)
	must(t, err)
	p, err := c.UploadPart(t.Context(), id, 1, int64(len(blob)), bytes.NewReader(blob))
	must(t, err)
	h.more()

	// By a call.
	change, err := h.server.RotateSigningKey(t.Context(), "p256")
	must(t, err)
	keys = append(keys, signingKey(t, real.PLC, did))
	if !change.Submitted || keys[1].Equal(keys[0]) || !strings.HasSuffix(change.Changes[0], keys[1].DIDKey()) {
		t.Fatalf("%+v", change)
	}
	h.more()
	follow("#identity")
	must(t, c.CompleteUpload(t.Context(), id, d, []holdclient.Part{p})) // begun before
	got, err := c.GetBlob(t.Context(), alice, d, "")
	must(t, err)
	link := got.URL
	if link == "" {
		t.Fatal("no link")
	}

	// Through the folder, as the command does. Nobody asks twice.
	cfg := dataDir(t, h.cfg).Identity
	asked, again := request(t, cfg, plc.RotateOptions{}), request(t, cfg, plc.RotateOptions{})
	keys = append(keys, asked)
	follow("#identity")
	if !signingKey(t, real.PLC, did).Equal(asked) || !again.Equal(asked) {
		t.Error("the directory does not show the key that was asked for")
	}
	h.more()

	// What was given out before is good; the document and a proof are by the new key.
	req, err := http.NewRequest(http.MethodGet, h.front.URL+"/xrpc/io.atcr.hold.getQuota?userDid="+alice, nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+early)
	if body, code := fetch(t, req); code != http.StatusOK {
		t.Errorf("a token from before: %d %s", code, body)
	}
	req, err = http.NewRequest(http.MethodGet, link, nil)
	must(t, err)
	if body, code := fetch(t, req); code != http.StatusOK || !bytes.Equal(body, blob) {
		t.Errorf("a link from before: %d", code)
	}
	if _, err := c.GetQuota(t.Context(), alice); err != nil {
		t.Error(err)
	}
	req, err = http.NewRequest(http.MethodGet, h.front.URL+"/.well-known/did.json", nil)
	must(t, err)
	if body, _ := fetch(t, req); !bytes.Contains(body, []byte(asked.Multibase())) {
		t.Errorf("the document: %s", body)
	}

	h.end()
	all := h.stored()
	for len(seen) < len(all) {
		e, err := follower.Next(time.Minute)
		must(t, err)
		seen = append(seen, e)
	}
	signed := checkLog(t, seen, keys)
	if slices.Min(signed) < 10 {
		t.Errorf("commits by each key: %v", signed)
	}
	for i, e := range seen {
		if e.Seq != all[i].Seq {
			t.Fatalf("the follower has event %d, the log %d", e.Seq, all[i].Seq)
		}
	}
	for i := range keys {
		if !shown[i].Equal(keys[i]) {
			t.Errorf("at event %d the directory showed another key", i)
		}
	}
	entries, err := (&didplc.Client{DirectoryURL: real.PLC}).AuditLog(t.Context(), did)
	must(t, err)
	if len(entries) != 3 {
		t.Errorf("%d operations", len(entries))
	}
	h.stop()
	h.start()
	if n := len(h.stored()); n != len(all) {
		t.Errorf("the start wrote %d events", n-len(all))
	}
	if strings.Contains(h.log.String(), "level=ERROR") {
		t.Error(h.log.String())
	}
}

func fetch(t *testing.T, req *http.Request) ([]byte, int) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return body, resp.StatusCode
}

// TestRotateRunningDirectoryFails: while the directory is down the old key signs; when the directory has taken the new one
// and its answer is lost, too, until the hold learns of it. Both end without a restart.
func TestRotateRunningDirectoryFails(t *testing.T) {
	real := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	proxy := realtest.NewFaultProxy(t, real.PLC)
	h := newRunningPLCHold(t, proxy.URL, real.Account("alice").DID)
	lose := make(chan *realtest.Injected, 2)
	h.hook = func(name string) error {
		if name == crashpoint.UpdateSigned && len(lose) == 0 {
			lose <- proxy.Inject(realtest.Fault{Kind: realtest.DropDone, Method: http.MethodPost})
			lose <- proxy.Inject(realtest.Fault{Kind: realtest.Drop, Method: http.MethodGet, Times: 2})
		}
		return nil
	}
	h.run()
	did := h.server.DID()
	keys := []atcrypto.PublicKey{signingKey(t, real.PLC, did)}
	down := proxy.Inject(realtest.Fault{Kind: realtest.Drop, Times: 2})
	if _, err := h.server.RotateSigningKey(t.Context(), ""); !errors.Is(err, identity.ErrPLCUnavailable) || down.Fired() == 0 {
		t.Fatal(err)
	}
	h.more()
	must(t, realtest.WaitFor(60*time.Second, func() error {
		if _, err := os.Stat(filepath.Join(h.cfg.Dir, "keys", "signing.key.next")); err == nil {
			return errors.New("the rotation is not finished")
		}
		return nil
	}))
	must(t, realtest.WaitFor(time.Minute, func() error {
		if !strings.Contains(h.log.String(), "signs with a new key") {
			return errors.New("the new key is not in use")
		}
		return nil
	}))
	h.more()
	keys = append(keys, signingKey(t, real.PLC, did))
	for range 2 {
		if f := <-lose; f.Fired() == 0 {
			t.Error("a fault did not fire")
		}
	}
	h.end()
	if signed := checkLog(t, h.stored(), keys); slices.Min(signed) < 10 {
		t.Errorf("commits by each key: %v", signed)
	}
	entries, err := (&didplc.Client{DirectoryURL: real.PLC}).AuditLog(t.Context(), did)
	must(t, err)
	if len(entries) != 2 {
		t.Errorf("%d operations", len(entries))
	}
}

// rotate returns the identity that has the new key.
func rotate(t *testing.T, id *identity.Identity, cfg identity.Config, o plc.RotateOptions) *identity.Identity {
	t.Helper()
	m, err := plc.NewManager(id, cfg)
	must(t, err)
	_, err = m.Rotate(t.Context(), o)
	must(t, err)
	return m.Identity()
}

// request asks the hold that runs for a rotation, and returns the new key.
func request(t *testing.T, cfg identity.Config, o plc.RotateOptions) atcrypto.PublicKey {
	t.Helper()
	id, err := identity.Load(cfg)
	must(t, err)
	m, err := plc.NewManager(id, cfg)
	must(t, err)
	key, err := m.RequestRotation(t.Context(), o)
	must(t, err)
	return key
}
