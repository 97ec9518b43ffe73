package repotest

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/atcr-dev/atcr/repo"
)

// exports takes exports while others write: each is one commit's state, whole, and nobody waits for an export.
func exports(t *testing.T, s repo.Store) {
	ctx := t.Context()
	r := Open(t, s, repo.Options{})
	var ws []repo.Write
	for i := range 500 { // a megabyte, so that it is written in parts
		w := put(t, fmt.Sprintf("k%d", i), i)
		w.Record = record(t, `{"$type":%q,"n":%d,"pad":%q}`, coll, i, strings.Repeat("x", 2000))
		ws = append(ws, w)
	}
	must[repo.Commit](t)(r.Apply(ctx, ws))

	// One write falls into the middle of each export: it is done before the export goes on, which does not see it.
	for n := range 5 {
		before := must[repo.Commit](t)(r.Head(ctx))
		middle := &within{do: func() {
			ws := []repo.Write{put(t, fmt.Sprintf("k%d", n), -n-1),
				{Action: repo.Delete, Collection: coll, RKey: fmt.Sprintf("k%d", 499-n)},
				put(t, fmt.Sprintf("new%d", n), n)}
			must[repo.Commit](t)(r.Apply(ctx, ws))
		}}
		if err := repo.ExportCAR(ctx, r, middle, nil); err != nil || middle.do != nil {
			t.Fatalf("export: %v; the write fell into it: %v", err, middle.do == nil)
		}
		info := must[repo.CARInfo](t)(repo.VerifyCAR(ctx, repo.Source{Reader: &middle.Buffer, DID: r.DID(), Key: r.PublicKey()}))
		if info.Commit != before.CID || info.Rev != before.Rev || info.Records != 500 || !info.Streaming {
			t.Errorf("the export is of %+v, the commit before it was %+v", info, before)
		}
	}

	// And as many as may be.
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !stop.Load(); i++ {
			if _, err := r.Apply(ctx, []repo.Write{put(t, fmt.Sprintf("k%d", i%500), i)}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 10 {
		car := &within{}
		err := repo.ExportCAR(ctx, r, car, nil)
		if err == nil {
			_, err = repo.VerifyCAR(ctx, repo.Source{Reader: &car.Buffer, DID: r.DID(), Key: r.PublicKey()})
		}
		if err != nil {
			t.Errorf("beside writes: %v", err)
		}
	}
	stop.Store(true)
	wg.Wait()
	Check(t, r, s)
}

// within is a writer that does something once its first part has come.
type within struct {
	bytes.Buffer
	do func()
}

func (w *within) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if do := w.do; do != nil {
		w.do = nil
		do()
	}
	return n, err
}
