package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/realtest"
	"github.com/atcr-dev/atcr/internal/realtest/tools"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
	"github.com/atcr-dev/atcr/repo/repotest"
)

// peaks are record keys by the height that the tree gives them: pairs of leading zero bits of the path's SHA-256. The search
// goes on until each height up to the wanted one has some.
func peaks(collection string, height, each int) [][]string {
	out := make([][]string, height+1)
	for i, missing := 0, (height+1)*each; missing > 0; i++ {
		key := fmt.Sprintf("p%07x", i)
		sum := sha256.Sum256([]byte(collection + "/" + key))
		h := 0
		for _, b := range sum {
			zeros := bits.LeadingZeros8(b)
			if h += zeros / 2; zeros < 8 {
				break
			}
		}
		if h <= height && len(out[h]) < each {
			out[h] = append(out[h], key)
			missing--
		}
	}
	return out
}

// judge has the other implementations read what we export: @atproto/repo builds the tree anew, indigo verifies its own, and
// both come to our root.
func judge(t *testing.T, r *repo.Repo, name string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ours.car")
	export(t, r, file, nil)
	head, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if seen := askOracle(t, nil, "verify", file, r.DID(), r.PublicKey().DIDKey()); seen.Data != head.Data.String() || seen.Rev != head.Rev {
		t.Errorf("%s: @atproto/repo sees %+v, it is %s %s", name, seen, head.Data, head.Rev)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	commit, tree, err := indigo.LoadRepoFromCAR(t.Context(), f)
	if err == nil {
		err = commit.VerifySignature(r.PublicKey())
	}
	if err == nil {
		err = tree.MST.Verify()
	}
	if err != nil || commit.Data.String() != head.Data.String() {
		t.Errorf("%s: indigo: %v", name, err)
	}
	return file
}

func export(t *testing.T, r *repo.Repo, file string, o *repo.ExportOptions) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.ExportCAR(t.Context(), r, f, o); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRepoShapes: trees as high as ten levels, with and without anything between, growing and shrinking, come out as other
// implementations make them; each commit is undone by indigo from its event.
func TestRepoShapes(t *testing.T) {
	t.Parallel()
	realtest.Need(t, tools.ATProto)
	const coll, top = "io.atcr.tag", 9
	keys := peaks(coll, top, 3)
	r := repotest.Open(t, memstore.New(), repo.Options{DID: "did:web:peaks.example"})
	drop := func(keys ...string) (ws []repo.Write) {
		for _, k := range keys {
			ws = append(ws, repo.Write{Action: repo.Delete, Collection: coll, RKey: k})
		}
		return ws
	}
	add := func(keys ...string) (ws []repo.Write) {
		for _, k := range keys {
			ws = append(ws, put(t, coll, k, []byte(k)))
		}
		return ws
	}
	step := func(name string, look bool, ws ...[]repo.Write) {
		t.Helper()
		apply(t, r, slices.Concat(ws...))
		if look {
			judge(t, r, name)
		}
	}
	step("the highest alone", true, add(keys[top][0]))
	step("and a low one: nothing between", true, add(keys[0][0]))
	step("the highest gone", true, drop(keys[top][0]))
	step("empty", true, drop(keys[0][0]))
	for h := range top + 1 {
		step("rising", h == top, add(keys[h]...))
	}
	for h := range top + 1 {
		step("falling from below", h == top/2, drop(keys[h][1:]...))
	}
	for h := top; h > 0; h-- {
		step("falling from above", h == top/2, drop(keys[h][0]))
	}
	step("all heights in one commit", true, add(slices.Concat(keys...)...))

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	some := newRandomRecords(rand.New(rand.NewPCG(seed, 6)), "io.atcr.tag", "io.atcr.tag.more", "io.atcr-x.y")
	for range 300 {
		apply(t, r, some.writes(t, 1+some.rnd.IntN(12)))
	}
	judge(t, r, "at random")
	undone := 0
	for e, err := range r.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := realtest.ParseEvent(e.Body)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := indigo.VerifyCommitMessage(t.Context(), parsed.Commit); err != nil {
			t.Errorf("event %d: %v", undone, err)
		}
		if undone++; parsed.Commit.PrevData == nil && undone > 1 {
			t.Error("an event without prevData")
		}
	}
	if undone < 320 {
		t.Errorf("only %d events", undone)
	}
}

// TestRepoSince: the difference since a revision, put to an older export, is the newer repository; a third of it is deleted meanwhile.
func TestRepoSince(t *testing.T) {
	t.Parallel()
	realtest.Need(t, tools.ATProto)
	dir, seed := t.TempDir(), rand.Uint64()
	t.Logf("seed %d", seed)
	r := repotest.Open(t, memstore.New(), repo.Options{DID: "did:web:since.example"})
	some := newRandomRecords(rand.New(rand.NewPCG(seed, 7)), "io.atcr.tag", "app.unknown.thing")
	apply(t, r, some.writes(t, 3000))
	at := apply(t, r, some.writes(t, 1))
	before := records(t, r)
	older, newer := filepath.Join(dir, "older.car"), filepath.Join(dir, "newer.car")
	export(t, r, older, nil)
	for range 20 {
		apply(t, r, some.writes(t, 100))
	}
	export(t, r, newer, &repo.ExportOptions{Since: at.Rev})
	head, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want oracle
	after := records(t, r)
	for k, v := range after {
		switch old, there := before[k]; {
		case !there:
			want.Creates++
		case old != v:
			want.Updates++
		}
	}
	for k := range before {
		if _, there := after[k]; !there {
			want.Deletes++
		}
	}
	got := askOracle(t, nil, "diff", older, newer, r.DID(), r.PublicKey().DIDKey())
	if got.Creates != want.Creates || got.Updates != want.Updates || got.Deletes != want.Deletes || got.Data != head.Data.String() ||
		got.Rev != head.Rev {
		t.Errorf("@atproto/repo sees %+v, it was %+v, %s %s", got, want, head.Data, head.Rev)
	}
	if want.Creates == 0 || want.Updates == 0 || want.Deletes == 0 {
		t.Errorf("too little happened: %+v", want)
	}
}

func records(t *testing.T, r *repo.Repo) map[string]repo.CID {
	t.Helper()
	out := map[string]repo.CID{}
	colls, err := r.Collections(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range colls {
		for rec, err := range r.List(t.Context(), c, "", false) {
			if err != nil {
				t.Fatal(err)
			}
			out[rec.Path()] = rec.CID
		}
	}
	return out
}

// TestProofsForOthers: what we prove, that a record is there and that it isn't, @atproto/repo verifies; with another
// key, or for another record, it does not.
func TestProofsForOthers(t *testing.T) {
	t.Parallel()
	realtest.Need(t, tools.ATProto)
	const coll, absent = "io.atcr.tag", 40
	r := repotest.Open(t, memstore.New(), repo.Options{DID: "did:web:proofs.example"})
	var ws []repo.Write
	for h, keys := range peaks(coll, 7, 3) {
		for _, k := range keys {
			ws = append(ws, put(t, coll, k, fmt.Append(nil, h)))
		}
	}
	for i := range 5 * absent {
		ws = append(ws, put(t, coll, fmt.Sprintf("r%04d", i), fmt.Append(nil, i)))
	}
	apply(t, r, ws)
	there := records(t, r)
	var questions, lies bytes.Buffer
	ask := func(to io.Writer, rkey string, cid any) {
		var car bytes.Buffer
		if err := r.Prove(t.Context(), &car, coll, rkey); err != nil {
			t.Fatal(err)
		}
		line, err := json.Marshal(map[string]any{"car": base64.StdEncoding.EncodeToString(car.Bytes()), "collection": coll, "rkey": rkey,
			"cid": cid})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(to, "%s\n", line)
	}
	for i := range absent {
		ask(&questions, fmt.Sprintf("r%04d.5", i*5), nil)
		ask(&lies, fmt.Sprintf("r%04d", i*5), nil)
	}
	for path, cid := range there {
		_, rkey, _ := strings.Cut(path, "/")
		ask(&questions, rkey, cid.String())
		ask(&lies, rkey, repo.RecordCID([]byte("another")).String())
	}
	key := r.PublicKey().DIDKey()
	got := askOracle(t, bytes.NewReader(questions.Bytes()), "proofs", r.DID(), key)
	if got.Verified != len(there)+absent || got.Refused != 0 || got.Records != int64(len(there)) {
		t.Errorf("%d records and %d that aren't there: %+v", len(there), absent, got)
	}
	if got := askOracle(t, &lies, "proofs", r.DID(), key); got.Verified != 0 || got.Refused != len(there)+absent {
		t.Errorf("lies: %+v", got)
	}
	other, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := other.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if got := askOracle(t, &questions, "proofs", r.DID(), pub.DIDKey()); got.Verified != 0 || got.Refused != len(there)+absent {
		t.Errorf("another key: %+v", got)
	}
}

// TestProofsOfOthers: we verify what the reference PDS proves, that a record is there and that it isn't, and its getRepo.
func TestProofsOfOthers(t *testing.T) {
	t.Parallel()
	n := realtest.Network(t, realtest.NetworkOptions{Accounts: []string{"alice"}})
	alice := n.Account("alice")
	const coll = "io.atcr.tag"
	session := n.Session(t, "alice")
	var writes []map[string]any
	for i := range 180 {
		writes = append(writes, map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": coll,
			"rkey":  fmt.Sprintf("r%04d", i),
			"value": map[string]any{"$type": coll, "tag": fmt.Sprint("v", i)}})
	}
	for part := range slices.Chunk(writes, 60) {
		if err := n.Call(t.Context(), http.MethodPost, alice.PDS, "com.atproto.repo.applyWrites", session,
			map[string]any{"repo": alice.DID, "writes": part}, nil); err != nil {
			t.Fatal(err)
		}
	}
	dir := identity.NewResolver(identity.ResolverOptions{PLCURL: n.PLC, TestMode: true})
	who, err := dir.DIDs().LookupDID(t.Context(), syntax.DID(alice.DID))
	if err != nil {
		t.Fatal(err)
	}
	key, err := who.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 180 {
		rkey := fmt.Sprintf("r%04d", i)
		for _, there := range []bool{true, false} {
			if !there {
				rkey += ".5"
			}
			var car []byte
			if err := xrpc(t, alice.PDS, "com.atproto.sync.getRecord", url.Values{"did": {alice.DID}, "collection": {coll}, "rkey": {rkey}},
				&car); err != nil {
				t.Fatal(err)
			}
			rec, err := repo.VerifyProof(car, alice.DID, key, coll, rkey)
			if there && (err != nil || !strings.Contains(string(rec.Value), fmt.Sprint("v", i))) || !there && err == nil {
				t.Fatalf("%s: %v", rkey, err)
			}
			if _, err := repo.VerifyProof(car, "did:web:other.example", key, coll, rkey); err == nil {
				t.Fatal("of another DID")
			}
		}
	}
	var car []byte
	if err := xrpc(t, alice.PDS, "com.atproto.sync.getRepo", url.Values{"did": {alice.DID}}, &car); err != nil {
		t.Fatal(err)
	}
	info, err := repo.VerifyCAR(t.Context(), repo.Source{Reader: bytes.NewReader(car), DID: alice.DID, Key: key})
	if err != nil || info.Records < 180 {
		t.Errorf("getRepo: %+v, %v", info, err)
	}
}
