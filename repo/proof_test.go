package repo_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

const testDID = "did:web:test.example"

func write(t testing.TB, action repo.Action, rkey, value string) repo.Write {
	t.Helper()
	w := repo.Write{Action: action, Collection: "io.atcr.tag", RKey: rkey}
	if action != repo.Delete {
		var err error
		if w.Record, err = repo.RecordFromJSON(fmt.Appendf(nil, `{"$type":"io.atcr.tag","v":%q}`, value)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func filled(t testing.TB, n int) *repo.Repo {
	t.Helper()
	r := repotest.Open(t, memstore.New(), repo.Options{DID: testDID})
	var ws []repo.Write
	for i := range n {
		ws = append(ws, write(t, repo.Put, fmt.Sprintf("k%03d", i), "x"))
	}
	if _, err := r.Apply(t.Context(), ws); err != nil {
		t.Fatal(err)
	}
	return r
}

func prove(t testing.TB, r *repo.Repo, rkey string) []byte {
	t.Helper()
	var car bytes.Buffer
	if err := r.Prove(t.Context(), &car, "io.atcr.tag", rkey); err != nil {
		t.Fatal(err)
	}
	return car.Bytes()
}

func TestProof(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, n := range []int{0, 1, 2, 30, 300} {
		r := filled(t, n)
		for i := range n {
			key := fmt.Sprintf("k%03d", i)
			car := prove(t, r, key)
			rec, err := repo.VerifyProof(car, testDID, r.PublicKey(), "io.atcr.tag", key)
			if err != nil {
				t.Fatal(err)
			}
			commit, theirs, err := indigo.LoadRepoFromCAR(ctx, bytes.NewReader(car))
			if err != nil {
				t.Fatal(err)
			}
			value, c, err := theirs.GetRecordBytes(ctx, "io.atcr.tag", syntax.RecordKey(key))
			if err != nil || !bytes.Equal(value, rec.Value) || c.String() != rec.CID.String() || commit.VerifySignature(r.PublicKey()) != nil {
				t.Fatalf("indigo reads %x, %s: %v", value, c, err)
			}
		}
		for _, key := range []string{"a", "k000.5", "k150.5", "zz"} {
			if _, err := repo.VerifyProof(prove(t, r, key), testDID, r.PublicKey(), "io.atcr.tag", key); !errors.Is(err, repo.ErrNotFound) {
				t.Fatalf("%d records, absent %s: %v", n, key, err)
			}
		}
	}
}

func TestVerifyProofRefuses(t *testing.T) {
	t.Parallel()
	r, other := filled(t, 200), filled(t, 200)
	car := prove(t, r, "k100")
	key := r.PublicKey()
	cut := func(at int) []byte { return append(bytes.Clone(car[:at]), car[len(car):]...) }
	for name, c := range map[string]struct {
		car  []byte
		did  string
		key  atcrypto.PublicKey
		rkey string
	}{
		"empty":            {nil, testDID, key, "k100"},
		"cut":              {cut(len(car) - 1), testDID, key, "k100"},
		"without its end":  {cut(len(car) / 2), testDID, key, "k100"},
		"other DID":        {car, "did:web:other.example", key, "k100"},
		"other key":        {car, testDID, other.PublicKey(), "k100"},
		"other record":     {car, testDID, key, "k007"},
		"bad record key":   {car, testDID, key, "../x"},
		"of somebody else": {prove(t, other, "k100"), testDID, key, "k100"},
		"over the limit":   {make([]byte, repo.MaxProofSize+1), testDID, key, "k100"},
	} {
		if rec, err := repo.VerifyProof(c.car, c.did, c.key, "io.atcr.tag", c.rkey); !errors.Is(err, repo.ErrInvalidProof) {
			t.Errorf("%s: %+v, %v", name, rec, err)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 2000 { // no changed bit passes
		bad := bytes.Clone(car)
		bad[rnd.IntN(len(bad))] ^= 1 << rnd.IntN(8)
		if _, err := repo.VerifyProof(bad, testDID, key, "io.atcr.tag", "k100"); !errors.Is(err, repo.ErrInvalidProof) {
			t.Fatalf("a changed proof passes: %v", err)
		}
	}
}

// FuzzVerifyProof is for the frame of a CAR: behind it every change dies at a hash. FuzzProofTree goes on there.
func FuzzVerifyProof(f *testing.F) {
	r := filled(f, 40)
	f.Add(prove(f, r, "k010"))
	f.Add(prove(f, r, "nope"))
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x7f})
	_, bad := repo.HostileCARs(f, testDID, newKey(f))
	for _, h := range bad {
		f.Add(h.CAR)
	}
	key := r.PublicKey()
	f.Fuzz(func(t *testing.T, car []byte) {
		rec, err := repo.VerifyProof(car, testDID, key, "io.atcr.tag", "k010")
		if err == nil && len(rec.Value) == 0 {
			t.Fatal("a proof without a record")
		}
	})
}

// FuzzProofTree changes what the blocks of a signed proof say. Whatever is accepted, indigo reads the same record there, and a
// record that is proved to be absent it does not find.
func FuzzProofTree(f *testing.F) {
	key := newKey(f)
	r := repotest.Open(f, memstore.New(), repo.Options{DID: testDID, Key: key})
	for i := range 40 {
		if _, err := r.Apply(f.Context(), []repo.Write{write(f, repo.Put, fmt.Sprintf("k%03d", i), fmt.Sprint(i))}); err != nil {
			f.Fatal(err)
		}
	}
	for _, rkey := range []string{"k000", "k010", "k039", "nope"} {
		loose := repo.LooseProof(f, prove(f, r, rkey))
		car, _ := repo.TieProof(f, loose, testDID, key)
		if _, err := repo.VerifyProof(car, testDID, r.PublicKey(), "io.atcr.tag", rkey); (err != nil) != (rkey == "nope") ||
			rkey == "nope" && !errors.Is(err, repo.ErrNotFound) {
			f.Fatalf("%s, tied again: %v", rkey, err)
		}
		f.Add(loose, rkey)
	}
	hostile := repo.LooseHostiles(f, testDID, key)
	if len(hostile) < 15 {
		f.Fatalf("%d hostile trees", len(hostile))
	}
	for _, loose := range hostile {
		f.Add(loose, "k000001")
	}
	f.Fuzz(func(t *testing.T, loose []byte, rkey string) {
		car, _ := repo.TieProof(t, loose, testDID, key)
		rec, err := repo.VerifyProof(car, testDID, r.PublicKey(), "io.atcr.tag", rkey)
		if err != nil && !errors.Is(err, repo.ErrNotFound) {
			if !errors.Is(err, repo.ErrInvalidProof) {
				t.Fatalf("error %v without its kind", err)
			}
			return
		}
		_, theirs, lerr := indigo.LoadRepoFromCAR(context.Background(), bytes.NewReader(car))
		if lerr != nil {
			t.Fatalf("taken here, refused by indigo: %v", lerr)
		}
		value, id, lerr := theirs.GetRecordBytes(context.Background(), "io.atcr.tag", syntax.RecordKey(rkey))
		if err == nil && (lerr != nil || id.String() != rec.CID.String() || !bytes.Equal(value, rec.Value)) {
			t.Fatalf("%s here is %s, for indigo %s, %v", rkey, rec.CID, id, lerr)
		}
		if err != nil && lerr == nil {
			t.Fatalf("%s is absent here, for indigo %s", rkey, id)
		}
	})
}

// TestEvents has indigo undo every commit from its event alone.
func TestEvents(t *testing.T) {
	t.Parallel()
	ctx := context.WithoutCancel(t.Context())
	r := repotest.Open(t, memstore.New(), repo.Options{DID: testDID})
	rnd := rand.New(rand.NewPCG(3, 3))
	there := map[string]bool{}
	for range 200 {
		var ws []repo.Write
		for _, i := range rnd.Perm(50)[:1+rnd.IntN(4)] {
			key := fmt.Sprintf("k%03d", i)
			switch {
			case there[key] && rnd.IntN(2) == 0:
				ws = append(ws, write(t, repo.Delete, key, ""))
				there[key] = false
			default:
				ws = append(ws, write(t, repo.Put, key, fmt.Sprint(rnd.Uint64())))
				there[key] = true
			}
		}
		if _, err := r.Apply(ctx, ws); err != nil {
			t.Fatal(err)
		}
	}
	for _, extra := range [][]repo.Write{ // one that changes nothing is no operation
		{write(t, repo.Put, "k000", "same")}, {write(t, repo.Put, "k000", "same"),
			write(t, repo.Put, "k001", "new")}, {write(t, repo.Put, "k000", "same")},
	} {
		if _, err := r.Apply(ctx, extra); err != nil {
			t.Fatal(err)
		}
	}
	n, seq, since := 0, int64(0), ""
	header, _ := hex.DecodeString("a2617467" + "23636f6d6d6974" + "626f7001")
	for e, err := range r.Events(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		body, ok := bytes.CutPrefix(e.Body, header)
		if !ok {
			t.Fatalf("frame begins with %x", e.Body[:20])
		}
		var msg comatproto.SyncSubscribeRepos_Commit
		if err := msg.UnmarshalCBOR(bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		if msg.Seq <= seq || msg.Repo != testDID {
			t.Fatalf("seq %d after %d", msg.Seq, seq)
		}
		if n > 0 && (msg.Since == nil || *msg.Since != since || msg.PrevData == nil) {
			t.Fatalf("since %v, the commit before was %s", msg.Since, since)
		}
		seq, since = msg.Seq, msg.Rev
		n++
		if _, err := indigo.VerifyCommitMessage(ctx, &msg); err != nil {
			t.Fatalf("event %d: %v", n, err)
		}
		if want, ok := map[int]int{203: 1, 204: 0}[n]; ok && len(msg.Ops) != want {
			t.Errorf("event %d has %d operations, want %d", n, len(msg.Ops), want)
		}
	}
	if n != 204 {
		t.Fatalf("%d events", n)
	}
}

// Nothing says that a signature is good without a key to check it by.
func TestNoKeyProvesNothing(t *testing.T) {
	t.Parallel()
	r := filled(t, 5)
	if _, err := repo.VerifyProof(prove(t, r, "k001"), testDID, nil, "io.atcr.tag", "k001"); !errors.Is(err, repo.ErrInvalidProof) ||
		!errors.Is(err, repo.ErrInvalidOptions) {
		t.Errorf("a proof: %v", err)
	}
	var car bytes.Buffer
	if err := repo.ExportCAR(t.Context(), r, &car, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.VerifyCAR(t.Context(), repo.Source{Reader: bytes.NewReader(car.Bytes())}); !errors.Is(err, repo.ErrInvalidOptions) {
		t.Errorf("a CAR: %v", err)
	}
	c, err := repo.OpenCAR(t.Context(), repo.Source{Reader: bytes.NewReader(car.Bytes()), AnyKey: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.VerifySignature(nil); !errors.Is(err, repo.ErrInvalidOptions) || c.Info.SignatureChecked {
		t.Errorf("afterwards: %v, %+v", err, c.Info)
	}
}

// A record that is only not canonical is proved all the same, and its reader is told.
func TestProofOfOddRecords(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	_, bad := repo.HostileCARs(t, testDID, key)
	n := 0
	for _, h := range bad {
		if !h.Reported {
			continue
		}
		n++
		c, err := repo.OpenCAR(t.Context(), repo.Source{Reader: bytes.NewReader(h.CAR), AnyKey: true})
		if err != nil {
			t.Fatal(h.Name, err)
		}
		for want, err := range c.Records(t.Context()) {
			if err != nil {
				t.Fatal(h.Name, err)
			}
			got, err := repo.VerifyProof(h.CAR, testDID, public(t, key), want.Collection, want.RKey)
			if !errors.Is(err, repo.ErrInvalidRecord) || errors.Is(err, repo.ErrInvalidProof) || got.CID != want.CID ||
				!bytes.Equal(got.Value, want.Value) {
				t.Errorf("%s: %+v, %v", h.Name, got, err)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if n < 8 {
		t.Errorf("%d records", n)
	}
}
