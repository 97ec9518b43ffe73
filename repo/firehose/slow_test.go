package firehose_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/coder/websocket"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/firehose"
)

// TestTooSlowIsTold: a consumer that reads on, only too slowly, gets what was on its way, then the error by its name, then the close.
func TestTooSlowIsTold(t *testing.T) {
	f := newFixture(t, repo.Options{}, firehose.Options{MaxLag: 1 << 20})
	head, err := f.Seq(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slow := f.dial(fmt.Sprintf("?cursor=%d", head))
	expect(t, slow, f.put(1, 1)) // it has caught up
	var all []repo.Event
	for read1 := 0; read1 < 200; read1++ {
		if read1 < 60 {
			all = append(all, f.put(3, 400_000)...) // three times as fast as it reads
		}
		msg := read(t, slow)
		if !bytes.HasPrefix(msg, []byte("\xa1\x62op\x20")) {
			if !bytes.Equal(msg, all[read1].Body) {
				t.Fatalf("message %d is another", read1)
			}
			continue
		}
		if !bytes.Contains(msg, []byte("ConsumerTooSlow")) {
			t.Fatalf("the error is %q", msg)
		}
		if _, _, err := slow.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Errorf("closed with %v", err)
		}
		t.Logf("told after %d events of %d", read1, len(all))
		return
	}
	t.Error("the slow one got everything")
}
