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
	n, dir := int64(b.records), filepath.Join(b.Folder, "cars")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	car, ours, db := filepath.Join(dir, "theirs.car"), filepath.Join(dir, "ours.car"), filepath.Join(dir, "repo.db")
	var m made
	if err := rounds.JSON(ctx, &m, append(node, "make", car, strconv.Itoa(b.records))...); err != nil {
		return err
	}
	var theirs struct {
		Records int64
		Verify  float64
	}
	if err := rounds.JSON(ctx, &theirs, append(node, "verify", car, m.DID, m.Key)...); err != nil {
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
	command, err := b.importForeign(ctx, dir, car)
	if err != nil {
		return err
	}
	row := func(what string, least float64) rounds.Row {
		return rounds.Row{What: what, To: peer, Least: least, Unit: "ms"}
	}
	b.Faster(row(fmt.Sprintf("import %d records, durable, to creating them in memory", n), 6), imported.MS, m.Create)
	foreign := fmt.Sprintf("atcr-hold repo import of its CAR of %d records, blocks in no order, into a hold that was started", n)
	b.Faster(row(foreign, 6), command.MS, m.Create)
	b.Faster(row(fmt.Sprintf("export %d records", n), 15), exported.MS, m.Export)
	b.Faster(row(fmt.Sprintf("verify %d records, any order", n), 12), anyOrder.MS, theirs.Verify)
	b.Faster(row(fmt.Sprintf("verify %d records, streaming order", n), 25), streaming.MS, theirs.Verify)
	b.Memory(fmt.Sprintf("import of %d records", n), 120, imported.KiB)
	b.Memory(fmt.Sprintf("atcr-hold repo import of %d records", n), 120, command.KiB)
	b.Memory(fmt.Sprintf("export of %d records", n), 64, exported.KiB)
	b.Memory("verify, any order", 0, anyOrder.KiB)
	b.Memory("verify, streaming order", 0, streaming.KiB)
	return nil
}

// importForeign gives the peer's CAR to the command, its blocks in no order, into a hold that has some records.
func (b *bench) importForeign(ctx context.Context, dir, car string) (out outcome, err error) {
	program, err := b.program(ctx)
	if err != nil {
		return out, err
	}
	some, err := someRecords(ctx, dir)
	if err != nil {
		return out, err
	}
	shuffled := filepath.Join(dir, "shuffled.car")
	if _, err := inChild(ctx, "shuffle", car, shuffled); err != nil {
		return out, err
	}
	if out, err = importCommand(ctx, program, filepath.Join(dir, "hold"), some, shuffled); err != nil {
		return out, err
	}
	if out.Records != int64(b.records) {
		err = fmt.Errorf("repo import: %d records, want %d", out.Records, b.records)
	}
	return out, err
}

// writeCAR writes a database's CAR, which is in streaming order, and returns the key that signed it.
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
	b.Within(rounds.Row{What: fmt.Sprintf("export %d records", b.large), To: fmt.Sprintf("%d records", b.records), Unit: "ms"},
		out.MS, few.MS)
	b.Memory(fmt.Sprintf("export of %d records", b.large), 64, out.KiB)
	return nil
}
