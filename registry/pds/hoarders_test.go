package pds_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/registry"
	"github.com/atcr-dev/atcr/registry/pds/internal/uploads"
)

// hoarder is somebody who left uploads with tails of so many bytes, two hours ago.
type hoarder struct {
	did, client string
	n           int
	size        int64
}

// hoard restarts the backend with what hoarders left.
func (w *world) hoard(hoarders ...hoarder) {
	w.t.Helper()
	w.stop()
	db := w.table()
	for i, h := range hoarders {
		for j := range h.n {
			id := fmt.Sprintf("hoard-%d-%d", i, j)
			f, err := os.Create(filepath.Join(w.tails(), id))
			must(w.t, err)
			must(w.t, errors.Join(f.Truncate(h.size), f.Close())) // takes no room
			_, err = db.Exec(`insert into pds_upload
				(id, owner, actor, session, repository, hold, upload_id, size, parts, touched, client, tail)
				values ($1, $2, $2, '', 'app', $3, '', 0, '[]', $4, $5, $6)`,
				id, h.did, w.holdServer.DID(), w.clock.now().Add(-2*time.Hour).Unix(), h.client, h.size)
			must(w.t, err)
		}
	}
	w.start()
}

// tailsOf counts the tails that an account has, begun from an address.
func (w *world) tailsOf(did, client string) (n int) {
	w.t.Helper()
	must(w.t, w.table().QueryRow(`select count(*) from pds_upload where actor = $1 and client = $2 and tail > 0`, did, client).Scan(&n))
	return n
}

// rests leaves an upload with a tail.
func rests(t testing.TB, r registry.Repository, data []byte) string {
	t.Helper()
	id := begin(t, r)
	up := open_(t, r, id)
	_, err := up.ReadFrom(bytes.NewReader(data))
	must(t, errors.Join(err, up.Close()))
	return id
}

// TestTailsOfHoarders: accounts that leave uploads until all room for tails is taken stop nobody: theirs go, the biggest account's first,
// and nobody's who takes less than who needs the room.
func TestTailsOfHoarders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	const size = 5<<20 - 1
	bob := w.accounts["bob"].did
	w.hoard(hoarder{"did:plc:a", "192.0.2.1", 51, size}, hoarder{"did:plc:b", "192.0.2.2", 51, size},
		hoarder{"did:plc:c", "192.0.2.3", 51, size}, hoarder{bob, "192.0.2.4", 40, size}, hoarder{"did:plc:d", "192.0.2.5", 11, size})
	alice := fromClient{w.repo("alice", "alice", "app"), "192.0.2.9"}
	piece := randomBytes(size, 4)
	must(t, upload(t.Context(), alice, piece))
	w.pulls(alice, digest.FromBytes(piece))
	id := rests(t, alice, piece)
	for range 3 { // by the hoarder that takes less than three others
		rests(t, fromClient{w.repo("bob", "bob", "app"), "192.0.2.4"}, piece)
	}
	up := open_(t, alice, id)
	if up.Size() != size {
		t.Errorf("of the small account's tail %d bytes are left", up.Size())
	}
	_, err := up.Commit(t.Context(), digest.FromBytes(piece))
	must(t, err)
	if n := w.tailsOf("did:plc:d", "192.0.2.5"); n != 11 {
		t.Errorf("of 11 tails of who takes less than who needed room %d are left", n)
	}
	if n := w.tailsOf(bob, "192.0.2.4"); n != 43 {
		t.Errorf("the hoarder that takes less than others has %d tails, want 43", n)
	}
	entries, err := os.ReadDir(w.tails())
	must(t, err)
	var lie int64
	for _, e := range entries {
		st, err := e.Info()
		must(t, err)
		lie += st.Size()
	}
	if _, tails := w.backend.Held(); tails != lie || tails > 1<<30 {
		t.Errorf("%d bytes are counted, %d lie there", tails, lie)
	}
}

// TestTailsBehindOneAddress: nor does one account stop the others that come from its address. What goes is of that address.
func TestTailsBehindOneAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	const size = 5<<20 - 1
	w.hoard(hoarder{"did:plc:a", "192.0.2.1", 50, size}, hoarder{"did:plc:b", "192.0.2.1", 2, 2 << 20},
		hoarder{"did:plc:c", "192.0.2.2", 51, size})
	r := fromClient{w.repo("alice", "alice", "app"), "192.0.2.1"}
	piece := randomBytes(size, 4)
	must(t, upload(t.Context(), r, piece))
	w.pulls(r, digest.FromBytes(piece))
	for _, c := range []struct {
		did, client string
		want        int
	}{{"did:plc:a", "192.0.2.1", 49}, {"did:plc:b", "192.0.2.1", 2}, {"did:plc:c", "192.0.2.2", 51}} {
		if n := w.tailsOf(c.did, c.client); n != c.want {
			t.Errorf("%s has %d tails at %s, want %d", c.did, n, c.client, c.want)
		}
	}
	// Who has all of the account's share is told so, as before.
	must1(w.table().Exec(`delete from pds_upload`))
	w.hoard(hoarder{w.accounts["bob"].did, "192.0.2.3", 51, size})
	bob := fromClient{w.repo("bob", "bob", "app"), "192.0.2.4"}
	must(t, upload(t.Context(), bob, []byte("small")))
	wantKind(t, upload(t.Context(), bob, piece), registry.ErrTooManyRequests)
}

// TestTailOfACopyIsInUse: a copy between holds that pauses is not at rest: its bytes don't make way, and are given back once.
func TestTailOfACopyIsInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devnetPDS)
	const others = 1<<30 - 16<<20
	w.hoard(hoarder{"did:plc:a", "192.0.2.1", 1, others})
	_, err := w.table().Exec(`delete from pds_upload`) // it takes room, and can't make way
	must(t, err)
	data := randomBytes(17<<20, 8)
	body := newStalling(data, 16<<20-1)
	d := digest.FromBytes(data)
	done := make(chan error, 1)
	go func() {
		done <- w.backend.Copy(t.Context(), w.actor("alice"),
			uploads.Target{Owner: w.accounts["alice"].did, Repository: "app", Hold: w.holdServer.DID()}, d, body)
	}()
	<-body.reached
	must(t, realtest.WaitFor(time.Minute, func() error {
		if n, err := w.backend.Uploads(t.Context()); n != 1 || err != nil {
			return fmt.Errorf("%d uploads have rows, %v", n, err)
		}
		return nil
	}))
	wantKind(t, upload(t.Context(), w.repo("bob", "bob", "app"), randomBytes(5<<20-1, 9)), registry.ErrUnavailable)
	close(body.proceed)
	must(t, <-done)
	w.pulls(w.repo("alice", "alice", "app"), d)
	if memory, tails := w.backend.Held(); memory != 0 || tails != others {
		t.Errorf("at last %d bytes in memory, %d in tails, want %d", memory, tails, others)
	}
}
