package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/memstore"
)

// putExample writes records of {"n": i} under the given keys.
func putExample(r *repo.Repo, rkeys ...string) repo.Commit {
	var writes []repo.Write
	for i, rkey := range rkeys {
		value, err := repo.RecordFrom(map[string]any{"$type": "com.example.note", "n": i})
		if err != nil {
			log.Fatal(err)
		}
		writes = append(writes, repo.Write{Action: repo.Put, Collection: "com.example.note", RKey: rkey, Record: value})
	}
	c, err := r.Apply(context.Background(), writes)
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// A whole repository, and then what is newer than a revision: a follower asks for that as com.atproto.sync.getRepo?since=REV.
func ExampleExportCAR() {
	ctx := context.Background()
	r := openExample("did:web:a.example")
	defer r.Close()
	first := putExample(r, "a", "b")
	var all, since bytes.Buffer
	if err := repo.ExportCAR(ctx, r, &all, &repo.ExportOptions{
		Progress: func(records, _ int64) { fmt.Println(records, "records") },
	}); err != nil {
		log.Fatal(err)
	}
	putExample(r, "c")
	if err := repo.ExportCAR(ctx, r, &since, &repo.ExportOptions{
		Since:    first.Rev,
		Progress: func(records, _ int64) { fmt.Println(records, "record since") },
	}); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 2 records
	// 1 record since
}

// What an import would change is known before it is done.
func ExampleImporter() {
	ctx := context.Background()
	from, to := openExample("did:web:old.example"), openExample("did:web:new.example")
	defer from.Close()
	defer to.Close()
	putExample(from, "a", "b")
	putExample(to, "a")
	var car bytes.Buffer
	if err := repo.ExportCAR(ctx, from, &car, nil); err != nil {
		log.Fatal(err)
	}
	dry := repo.Importer{DryRun: true}
	would, err := dry.Import(ctx, to, repo.Source{Reader: &car, DID: from.DID(), Key: from.PublicKey()})
	fmt.Println(would.Created, "new,", would.Updated, "changed,", would.Unchanged, "the same,", would.Keys, err)
	// Output: 1 new, 0 changed, 1 the same, [{create com.example.note/b}] <nil>
}

// The records of a CAR, once all of it has been verified.
func ExampleOpenCAR() {
	ctx := context.Background()
	r := openExample("did:web:a.example")
	defer r.Close()
	putExample(r, "a", "b")
	var file bytes.Buffer
	if err := repo.ExportCAR(ctx, r, &file, nil); err != nil {
		log.Fatal(err)
	}
	car, err := repo.OpenCAR(ctx, repo.Source{Reader: &file, DID: "did:web:a.example", Key: r.PublicKey()})
	if err != nil {
		log.Fatal(err)
	}
	defer car.Close()
	for rec, err := range car.Records(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		text, err := rec.JSON()
		fmt.Println(rec.Path(), string(text), err)
	}
	// Output:
	// com.example.note/a {"$type":"com.example.note","n":0} <nil>
	// com.example.note/b {"$type":"com.example.note","n":1} <nil>
}

// A repository as it was, the commit included, in an empty store: after a disk was lost.
func ExampleMirrorCAR() {
	ctx := context.Background()
	r := openExample("did:web:a.example")
	defer r.Close()
	commit := putExample(r, "a", "b")
	var car bytes.Buffer
	if err := repo.ExportCAR(ctx, r, &car, nil); err != nil {
		log.Fatal(err)
	}
	store := memstore.New()
	src := func() repo.Source {
		return repo.Source{Reader: bytes.NewReader(car.Bytes()), DID: r.DID(), Key: r.PublicKey()}
	}
	info, err := repo.MirrorCAR(ctx, store, src(), nil)
	fmt.Println(info.Records, info.Commit == commit.CID, err)
	_, err = repo.MirrorCAR(ctx, store, src(), nil)
	fmt.Println("a second time:", errors.Is(err, repo.ErrExists))
	// Output:
	// 2 true <nil>
	// a second time: true
}

// A proof, as com.atproto.sync.getRecord answers it, shows that a record is there, or that it isn't.
func ExampleVerifyProof() {
	r := openExample("did:web:a.example")
	defer r.Close()
	putExample(r, "a", "b")
	for _, rkey := range []string{"a", "z"} {
		var car bytes.Buffer
		if err := r.Prove(context.Background(), &car, "com.example.note", rkey); err != nil {
			log.Fatal(err)
		}
		rec, err := repo.VerifyProof(car.Bytes(), "did:web:a.example", r.PublicKey(), "com.example.note", rkey)
		switch {
		case errors.Is(err, repo.ErrNotFound):
			fmt.Println(rkey, "is not there")
		case err != nil:
			log.Fatal(err) // repo.ErrInvalidProof: believe nothing
		default:
			fmt.Println(rec.URI("did:web:a.example"))
		}
	}
	// Output:
	// at://did:web:a.example/com.example.note/a
	// z is not there
}

// Lists go in byte order of the keys, from after a key, forwards or backwards.
func ExampleRepo_List() {
	r := openExample("did:web:a.example")
	defer r.Close()
	putExample(r, "a", "b", "c")
	for rec, err := range r.List(context.Background(), "com.example.note", "c", true) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(rec.RKey)
	}
	// Output:
	// b
	// a
}

// Whoever follows a repository remembers the number of the last event; Changed wakes it up.
func ExampleRepo_Events() {
	ctx := context.Background()
	r := openExample("did:web:a.example")
	defer r.Close()
	changed := r.Changed() // before looking, so that none is missed
	seen, err := r.Seq(ctx)
	if err != nil {
		log.Fatal(err)
	}
	go putExample(r, "a")
	<-changed
	for e, err := range r.Events(ctx, seen) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Seq > seen, len(e.Body) > 0)
	}
	// Output: true true
}

// What two copies of a repository differ in.
func ExampleDiff() {
	ctx := context.Background()
	r := openExample("did:web:a.example")
	defer r.Close()
	snapshot := func() *repo.CAR {
		var file bytes.Buffer
		if err := repo.ExportCAR(ctx, r, &file, nil); err != nil {
			log.Fatal(err)
		}
		car, err := repo.OpenCAR(ctx, repo.Source{Reader: &file, DID: r.DID(), Key: r.PublicKey()})
		if err != nil {
			log.Fatal(err)
		}
		return car
	}
	putExample(r, "a", "b")
	before := snapshot()
	defer before.Close()
	putExample(r, "b", "c")
	after := snapshot()
	defer after.Close()
	for d, err := range repo.Diff(ctx, before, after) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Path, d.A != nil, d.B != nil)
	}
	// Output:
	// com.example.note/b true true
	// com.example.note/c false true
}
