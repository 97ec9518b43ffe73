package repo

import (
	"bufio"
	"bytes"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// The protocol publishes facts on which implementations must agree (bluesky-social/atproto-interop-tests). Those that are files are
// read from indigo's module, which carries a copy that go.sum pins; the small ones stand here.

// fixture is a file of indigo's module.
func fixture(t *testing.T, path string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bluesky-social/indigo").Output()
	if err != nil {
		t.Fatal("go list: ", err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fixtures[T any](t *testing.T, path string) (out []T) {
	t.Helper()
	if err := json.Unmarshal(fixture(t, path), &out); err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatalf("%s is empty", path)
	}
	return out
}

func TestPublishedKeyHeights(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]int{
		"": 0, "asdf": 0, "blue": 1, "2653ae71": 0, "88bfafc7": 2, "2a92d355": 4, "884976f5": 6, "R2/359107": 2,
		"app.bsky.feed.post/454397e440ec": 4, "app.bsky.feed.post/9adeb165882c": 8,
	} {
		if got := keyHeight(key); got != want {
			t.Errorf("%q has height %d, want %d", key, got, want)
		}
	}
	n := 0
	for lines := bufio.NewScanner(bytes.NewReader(fixture(t, "atproto/repo/mst/testdata/example_keys.txt"))); lines.Scan(); {
		key := lines.Text()
		if len(key) < 3 || key[0] == '#' {
			continue
		}
		n++ // its second character tells the height
		if got := keyHeight(key); got != int(key[1]-'0') {
			t.Errorf("%q has height %d", key, got)
		}
	}
	if n < 100 {
		t.Errorf("only %d example keys", n)
	}
}

func TestPublishedPrefixes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		n    int
	}{
		{"", "", 0}, {"abc", "abc", 3}, {"", "abc", 0}, {"ab", "abc", 2}, {"abcde", "abc", 3}, {"abcde", "abc1", 3}, {"abcde", "abb",
			2}, {"abcde", "qbb", 0},
		{"abc", "abc\x00", 3}, {"jalapeño", "jalapeno", 6}, {"jalapeñoA", "jalapeñoB", 9}, {"coöperative", "coüperative", 3}, {"abc💩abc",
			"abcabc", 3},
		{"💩abc", "💩ab", 6},
	} {
		if got, back := commonPrefix(c.a, c.b), commonPrefix(c.b, c.a); got != c.n || back != c.n {
			t.Errorf("%q and %q share %d and %d bytes, want %d", c.a, c.b, got, back, c.n)
		}
	}
}

// The record that all published trees hold at each key.
const publishedLeaf = "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454"

// TestPublishedTrees: roots of known sets of keys, as they grow and shrink.
func TestPublishedTrees(t *testing.T) {
	t.Parallel()
	leaf, err := ParseCID(publishedLeaf)
	if err != nil {
		t.Fatal(err)
	}
	full := func(keys string) (out []treeOp) {
		for _, k := range strings.Fields(keys) {
			out = append(out, treeOp{"com.example.record/3jqfcqzm" + k + "2j", leaf})
		}
		return out
	}
	for _, c := range []struct {
		name, keys, root string
		change           treeOp // then
		height           int
		after            string
	}{
		{name: "empty", root: "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"},
		{name: "one", keys: "3fo", root: "bafyreibj4lsc3aqnrvphp5xmrnfoorvru4wynt6lwidqbm2623a6tatzdu"},
		{name: "one of height 2", keys: "3fx", root: "bafyreih7wfei65pxzhauoibu3ls7jgmkju4bspy4t2ha2qdjnzqvoy33ai"},
		{name: "five", keys: "3fp 3fr 3fs 3ft 4fc", root: "bafyreicmahysq4n6wfuxo522m6dpiy7z7qzym3dzs756t5n7nfdgccwq7m"},
		{
			name: "a delete trims the top", keys: "3fn 3fo 3fp 3fs 3ft 3fu", root: "bafyreifnqrwbk6ffmyaz5qtujqrzf5qmxf7cbxvgzktl4e3gabuxbtatv4",
			change: treeOp{key: "com.example.record/3jqfcqzm3fs2j"}, height: 0, after: "bafyreie4kjuxbwkhzg2i5dljaswcroeih4dgiqq6pazcmunwt2byd725vi",
		},
		{
			name: "an insert splits two layers down", keys: "3fo 3fp 3fr 3fs 3ft 3fz 4fc 4fd 4ff 4fg 4fh", root: "bafyreiettyludka6fpgp33stwxfuwhkzlur6chs4d2v4nkmq2j3ogpdjem",
			change: treeOp{"com.example.record/3jqfcqzm3fx2j",
				leaf}, height: 2, after: "bafyreid2x5eqs4w4qxvc5jiwda4cien3gw2q6cshofxwnvv7iucrmfohpm",
		},
	} {
		s := newTreeRows()
		s.mustApply(t, full(c.keys))
		if s.root.String() != c.root {
			t.Errorf("%s: root %s, want %s", c.name, s.root, c.root)
		}
		if c.after == "" {
			continue
		}
		before := s.root
		s.mustApply(t, []treeOp{c.change})
		if s.root.String() != c.after || s.h != c.height {
			t.Errorf("%s: then root %s at height %d, want %s at %d", c.name, s.root, s.h, c.after, c.height)
		}
		back := treeOp{key: c.change.key}
		if !c.change.val.Defined() {
			back.val = leaf
		}
		if s.mustApply(t, []treeOp{back}); s.root != before {
			t.Errorf("%s: and back: root %s", c.name, s.root)
		}
	}
}

// TestPublishedProofs: for each published commit our tree has its roots, our proof its blocks, and from our proof alone
// the commit is undone.
func TestPublishedProofs(t *testing.T) {
	t.Parallel()
	for _, f := range fixtures[struct {
		Comment, LeafValue, RootBeforeCommit, RootAfterCommit string
		Keys, Adds, Dels, BlocksInProof                       []string
	}](t, "atproto/repo/testdata/commit-proof-fixtures.json") {
		leaf, err := ParseCID(f.LeafValue)
		if err != nil {
			t.Fatal(err)
		}
		var fill, ops []treeOp
		for _, k := range f.Keys {
			fill = append(fill, treeOp{k, leaf})
		}
		s, old := newTreeRows(), map[string]CID{}
		s.mustApply(t, fill)
		before := s.root
		for _, k := range f.Adds {
			ops = append(ops, treeOp{k, leaf})
		}
		for _, k := range f.Dels {
			ops, old[k] = append(ops, treeOp{key: k}), leaf
		}
		d := s.mustApply(t, ops)
		if before.String() != f.RootBeforeCommit || s.root.String() != f.RootAfterCommit {
			t.Errorf("%s: roots %s, %s; want %s, %s", f.Comment, before, s.root, f.RootBeforeCommit, f.RootAfterCommit)
		}
		proof := map[string]bool{}
		for _, n := range d.alive {
			proof[n.cid.String()] = true
		}
		for _, b := range f.BlocksInProof {
			if !proof[b] {
				t.Errorf("%s: block %s is not in our proof", f.Comment, b)
			}
		}
		if err := invert(d, ops, old, before); err != nil {
			t.Errorf("%s: %v", f.Comment, err)
		}
	}
}

// TestPublishedRecords: JSON to DAG-CBOR to CID and back, and what is no record.
func TestPublishedRecords(t *testing.T) {
	t.Parallel()
	for i, f := range fixtures[struct {
		JSON json.RawMessage
		CBOR string `json:"cbor_base64"`
		CID  string
	}](t, "atproto/atdata/testdata/data-model-fixtures.json") {
		got, err := RecordFromJSON(f.JSON)
		if err != nil {
			t.Errorf("%d: %v", i, err)
			continue
		}
		if base64.RawStdEncoding.EncodeToString(got) != f.CBOR || RecordCID(got).String() != f.CID {
			t.Errorf("%d: %x, %s; want %s", i, got, RecordCID(got), f.CID)
		}
		js, err := RecordToJSON(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := RecordFromJSON(js)
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("%d: back and forth: %x, %v", i, again, err)
		}
	}
	type note struct {
		Note string
		JSON json.RawMessage
	}
	for _, f := range fixtures[note](t, "atproto/atdata/testdata/data-model-valid.json") {
		if _, err := RecordFromJSON(f.JSON); err != nil {
			t.Errorf("%s: %v", f.Note, err)
		}
	}
	for _, f := range fixtures[note](t, "atproto/atdata/testdata/data-model-invalid.json") {
		if got, err := RecordFromJSON(f.JSON); err == nil {
			t.Errorf("%s: taken as %x: %s", f.Note, got, f.JSON)
		}
	}
}

// TestCommitSignatures: what the published signatures tell apart: both curves, low S alone, no DER.
func TestCommitSignatures(t *testing.T) {
	t.Parallel()
	p256, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	k256, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	order, ok := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16) // of secp256k1
	if !ok {
		t.Fatal("no number")
	}
	for _, c := range []struct {
		name  string
		key   atcrypto.PrivateKey
		order *big.Int
	}{{"P-256", p256, elliptic.P256().Params().N}, {"K-256", k256, order}} {
		pub, err := c.key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		b := commitBlock{did: "did:web:test.example", rev: 1 << 50, data: RecordCID(nil)}
		if err := b.sign(c.key); err != nil {
			t.Fatal(err)
		}
		if err := b.verify(pub); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		r, s := new(big.Int).SetBytes(b.sig[:32]), new(big.Int).SetBytes(b.sig[32:])
		der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		high := append(bytes.Clone(b.sig[:32]), new(big.Int).Sub(c.order, s).FillBytes(make([]byte, 32))...)
		for form, sig := range map[string][]byte{"high S": high, "DER": der, "nothing": nil, "zeros": make([]byte, 64), "cut": b.sig[:63]} {
			bad := b
			bad.sig = sig
			if bad.verify(pub) == nil {
				t.Errorf("%s: a signature as %s is taken", c.name, form)
			}
		}
	}
}
