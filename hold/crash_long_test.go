package hold_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/holdclient"
)

// TestKilledAtRandom: fifty pushes, each with a kill -9 somewhere in it. Afterwards every blob is whole, every layer of every
// manifest is recorded once, and the quota says what was pushed.
func TestKilledAtRandom(t *testing.T) {
	if os.Getenv("ATCR_LONG") == "" {
		t.Skip("set ATCR_LONG=1: fifty kills take a minute")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	alice := newNetwork(t).user("alice")
	h := newChild(t, alice)
	h.start()
	p := &pusher{T: t, h: h, u: alice}
	did := "did:web:localhost%3A" + h.cfg.Addr[len("127.0.0.1:"):]
	p.c = holdclient.New(holdclient.Options{DID: did, URL: "http://" + h.cfg.Addr, HasHoldService: true, HTTP: http.DefaultClient,
		Token: alice.token})
	pushed := map[digest.Digest][]byte{}
	var total int64
	for i := range 50 {
		process, after := h.cmd.Process, time.Duration(random.IntN(150))*time.Millisecond
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			time.Sleep(after)
			_ = process.Kill()
		}()
		var digests []digest.Digest
		for k := range 3 {
			b := data(uint64(i*3+k)+1000, 1+random.IntN(800_000))
			total += int64(len(b))
			d := p.blob(b, 200_000)
			pushed[d] = b
			digests = append(digests, d)
		}
		d, _ := alice.putManifestAt(t, did, fmt.Sprintf("app%d", i), digests[0], digests[1:]...)
		p.again("notify", func() error {
			_, err := p.c.NotifyManifest(t.Context(), holdclient.Notice{Operation: holdclient.Push, Repository: fmt.Sprintf("app%d", i),
				UserDID: alice.did, Digest: d})
			return err
		})
		<-killed
		p.again("health", func() error { _, err := p.c.Describe(t.Context()); return err })
	}
	th := &testHold{t: t, url: "http://" + h.cfg.Addr, did: did}
	if got := th.layers(); len(got) != 150 {
		t.Errorf("%d layer records, want 150", len(got))
	}
	for d, b := range pushed {
		if !bytes.Equal(th.read(nil, d), b) {
			t.Errorf("%s came back as something else", d)
		}
	}
	q, err := p.c.GetQuota(t.Context(), alice.did)
	if err != nil || q.UniqueBlobs != 150 || q.TotalSize != total {
		t.Errorf("quota %+v, %v; want 150 blobs of %d bytes", q, err, total)
	}
	if p.crashes < 50 {
		t.Errorf("%d kills were noticed, want 50", p.crashes)
	}
}
