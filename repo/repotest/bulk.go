package repotest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/atcr-dev/atcr/repo"
)

// bulk checks that parts are seen by what follows, and that all or nothing stays.
func bulk(t *testing.T, s repo.Store) {
	ctx := t.Context()
	id := repo.RecordCID([]byte("x"))
	parts := func(end error) error {
		return s.Bulk(ctx, func(r repo.Reader, part func(*repo.Changes) error) error {
			for i := range 3 {
				path := fmt.Sprintf("a.b.c/%d", i)
				if err := part(&repo.Changes{PutRecords: []repo.StoredRecord{{Path: path, CID: id, Rev: 1,
					Value: []byte(path)}}}); err != nil {
					return err
				}
				if rec, err := r.Record(path); err != nil || string(rec.Value) != path {
					t.Errorf("a part is not seen: %v", err)
				}
			}
			return end
		})
	}
	mine := errors.New("mine")
	wantErr(t, parts(mine), mine)
	if _, err := s.Read(ctx).Record("a.b.c/0"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a failed Bulk left something: %v", err)
	}
	if err := parts(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(ctx).Record("a.b.c/2"); err != nil {
		t.Error(err)
	}
}

// imports fills one repository, brings it to another, in two steps, and mirrors it.
func imports(t *testing.T, one, two repo.Store) {
	ctx := t.Context()
	a, b := Open(t, one, repo.Options{}), Open(t, two, repo.Options{})
	for round := range 2 {
		var ws []repo.Write
		for i := range 400 {
			ws = append(ws, put(t, fmt.Sprintf("k%d", i*(round+1)), i))
		}
		must[repo.Commit](t)(a.Apply(ctx, ws))
		var car bytes.Buffer
		if err := repo.ExportCAR(ctx, a, &car, nil); err != nil {
			t.Fatal(err)
		}
		got := must[repo.Imported](t)(repo.ImportCAR(ctx, b, repo.Source{Reader: &car, Key: a.PublicKey()}))
		if head := must[repo.Commit](t)(a.Head(ctx)); got.Commit.Data != head.Data {
			t.Fatalf("round %d: the trees differ", round)
		}
		Check(t, b, two)
	}
}
