package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
	"github.com/atcr-dev/atcr/internal/realtest/tools"
	"github.com/atcr-dev/atcr/repo"
)

//go:embed peer.mjs
var peerScript []byte

const peer = "@atproto/repo"

// made is what the peer says of a repository.
type made struct {
	DID, Key       string
	Bytes          int64
	Create, Export float64
}

// measureCARs lets the peer make, export and verify a repository, and does the same with the CAR that it made. Its CAR is not
// in streaming order; ours is.
func measureCARs(ctx context.Context, b *bench) error {
	if !tools.Installed(tools.ATProto) {
		fmt.Fprintln(os.Stderr, "installing @atproto/repo…")
		if err := tools.Install(ctx, os.Stderr, tools.ATProto); err != nil {
			return fmt.Errorf("install @atproto/repo: %w", err)
		}
	}
	node, err := tools.ScriptCommand(peerScript)
	if err != nil {
		return err
	}
	n, dir := int64(b.records), filepath.Join(b.dir, "cars")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	car, ours, db := filepath.Join(dir, "theirs.car"), filepath.Join(dir, "ours.car"), filepath.Join(dir, "repo.db")
	var m made
	if err := runJSON(ctx, &m, append(node, "make", car, strconv.Itoa(b.records))...); err != nil {
		return err
	}
	var theirs struct {
		Records int64
		Verify  float64
	}
	if err := runJSON(ctx, &theirs, append(node, "verify", car, m.DID, m.Key)...); err != nil {
		return err
	}
	imported, err := inChild(ctx, "import", car, db)
	if err != nil {
		return err
	}
	exported, err := inChild(ctx, "export", db)
	if err != nil {
		return err
	}
	anyOrder, err := inChild(ctx, "verify", car, m.Key)
	if err != nil {
		return err
	}
	key, err := writeCAR(ctx, db, ours)
	if err != nil {
		return err
	}
	streaming, err := inChild(ctx, "verify", ours, key)
	if err != nil {
		return err
	}
	for _, got := range []int64{theirs.Records, imported.Records, exported.Records, anyOrder.Records, streaming.Records} {
		if got != n {
			return fmt.Errorf("%d records, want %d", got, n)
		}
	}
	row := func(what string, least float64) rounds.Row {
		return rounds.Row{What: what, To: peer, Least: least, Unit: "ms"}
	}
	b.faster(row(fmt.Sprintf("import %d records, durable, to creating them in memory", n), 6), imported.MS, m.Create)
	b.faster(row(fmt.Sprintf("export %d records", n), 15), exported.MS, m.Export)
	b.faster(row(fmt.Sprintf("verify %d records, any order", n), 12), anyOrder.MS, theirs.Verify)
	b.faster(row(fmt.Sprintf("verify %d records, streaming order", n), 25), streaming.MS, theirs.Verify)
	b.memory(fmt.Sprintf("import of %d records", n), 120, imported.KiB)
	b.memory(fmt.Sprintf("export of %d records", n), 64, exported.KiB)
	b.memory("verify, any order", 0, anyOrder.KiB)
	b.memory("verify, streaming order", 0, streaming.KiB)
	return nil
}

// writeCAR writes a database's CAR, which is in streaming order, and answers the key that signed it.
func writeCAR(ctx context.Context, db, to string) (key string, err error) {
	r, shut, err := openRepo(ctx, db)
	if err != nil {
		return "", err
	}
	defer func() {
		if cerr := shut(); err == nil {
			err = cerr
		}
	}()
	f, err := os.Create(to)
	if err != nil {
		return "", err
	}
	err = repo.ExportCAR(ctx, r, f, nil)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return r.PublicKey().DIDKey(), err
}

// measureLargeExport exports the large repository, for its memory and its time.
func measureLargeExport(ctx context.Context, b *bench) error {
	db, err := b.fill(ctx, b.large)
	if err != nil {
		return err
	}
	out, err := inChild(ctx, "export", db)
	if err != nil {
		return err
	}
	if out.Records < int64(b.large) { // commits may have added some
		return fmt.Errorf("%d records, want %d", out.Records, b.large)
	}
	small, err := b.fill(ctx, b.records)
	if err != nil {
		return err
	}
	few, err := inChild(ctx, "export", small)
	if err != nil {
		return err
	}
	b.within(rounds.Row{What: fmt.Sprintf("export %d records", b.large), To: fmt.Sprintf("%d records", b.records), Unit: "ms"}, out.MS, few.MS)
	b.memory(fmt.Sprintf("export of %d records", b.large), 64, out.KiB)
	return nil
}
