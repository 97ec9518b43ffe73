package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	gocar "github.com/ipld/go-car/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/cli/holdcli"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
)

// wrapCAR writes a CARv1 as a CARv2 with an index: wrapcar FROM TO [BYTES], of which so many are cut off at the end.
func wrapCAR(ts *testscript.TestScript, _ bool, args []string) {
	var out bytes.Buffer
	ts.Check(gocar.WrapV1(strings.NewReader(ts.ReadFile(args[0])), &out))
	cut := 0
	if len(args) > 2 {
		var err error
		cut, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), out.Bytes()[:out.Len()-cut], 0o600))
}

// carOf writes a CAR of records, key to value, into a file.
func carOf(t *testing.T, did string, records map[string]string) (file string) {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), memstore.New(), repo.Options{DID: did, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var ws []repo.Write
	for k, v := range records {
		value, err := repo.RecordFrom(map[string]string{"v": v})
		if err != nil {
			t.Fatal(err)
		}
		coll, rkey, _ := strings.Cut(k, "/")
		ws = append(ws, repo.Write{Action: repo.Create, Collection: coll, RKey: rkey, Record: value})
	}
	for some := range slices.Chunk(ws, 10_000) {
		if _, err := r.Apply(t.Context(), some); err != nil {
			t.Fatal(err)
		}
	}
	var car bytes.Buffer
	if err := repo.ExportCAR(t.Context(), r, &car, nil); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "x.car")
	if err := os.WriteFile(file, car.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestRepoDiff: what is in one CAR only and what differs, in the order of the tree, whatever the ends look like.
func TestRepoDiff(t *testing.T) {
	all := map[string]string{"io.atcr.tag/a": "1", "io.atcr.tag/b": "1", "io.atcr.tag/c": "1", "io.atcr.tag.more/a": "1", "io.atcr.z/z": "1"}
	other := map[string]string{"io.atcr.tag/0": "1", "io.atcr.tag/b": "2", "io.atcr.tag/c": "1", "io.atcr-x.tag/a": "1", "io.atcr.zz/z": "1"}
	a, b, empty := carOf(t, "did:web:a.example", all), carOf(t, "did:web:b.example", other), carOf(t, "did:web:c.example", nil)
	plus := "+ io.atcr-x.tag/a\n+ io.atcr.tag/0\n+ io.atcr.tag/b\n+ io.atcr.tag/c\n+ io.atcr.zz/z\n"
	for _, c := range []struct{ a, b, want string }{
		{a, b, "+ io.atcr-x.tag/a\n- io.atcr.tag.more/a\n+ io.atcr.tag/0\n- io.atcr.tag/a\n~ io.atcr.tag/b\n- io.atcr.z/z\n+ io.atcr.zz/z\n"},
		{a, a, ""},
		{empty, b, plus},
		{b, empty, strings.ReplaceAll(plus, "+", "-")},
	} {
		var out bytes.Buffer
		if err := (&holdcli.RepoDiffCommand{A: c.a, B: c.b}).Run(t.Context(), &cli.IO{Out: &out}); err != nil || out.String() != c.want {
			t.Errorf("%v\n%swant\n%s", err, out.String(), c.want)
		}
	}
	torn, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a, torn[:len(torn)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&holdcli.RepoDiffCommand{A: b, B: a}).Run(t.Context(), &cli.IO{Out: &bytes.Buffer{}}); err == nil ||
		!strings.Contains(err.Error(), fmt.Sprint(a, " at byte ")) {
		t.Errorf("a torn CAR: %v", err)
	}
}
