package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
)

// What people do with CARs: they run atcr-hold.

// shuffleCAR writes a CAR's blocks in an order that is none, always the same.
func shuffleCAR(from, to string) error {
	car, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var parts [][]byte
	for rest := car; len(rest) > 0; {
		n, head := binary.Uvarint(rest)
		if head <= 0 || n > uint64(len(rest)-head) {
			return fmt.Errorf("%s: it is cut off", from)
		}
		end := head + int(n)
		parts, rest = append(parts, rest[:end]), rest[end:]
	}
	if len(parts) == 0 {
		return fmt.Errorf("%s: it is empty", from)
	}
	blocks := parts[1:]
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(blocks), func(i, j int) { blocks[i], blocks[j] = blocks[j], blocks[i] })
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for _, p := range parts {
		w.Write(p) //nolint:errcheck // Flush tells
	}
	return errors.Join(w.Flush(), f.Close())
}

// program is atcr-hold as it is now.
func (b *bench) program(ctx context.Context) (string, error) {
	if b.hold != "" {
		return b.hold, nil
	}
	path := filepath.Join(b.Folder, "atcr-hold")
	err := rounds.Build(ctx, path, "cmd/atcr-hold")
	if err == nil {
		b.hold = path
	}
	return path, err
}

// onHold runs a verb of an atcr-hold on a data folder.
func onHold(ctx context.Context, program, folder string, args ...string) (e rounds.Ended, err error) {
	self, err := os.Executable()
	if err != nil {
		return e, err
	}
	rounds.SyncDisk()
	environ := "HOLD_DATABASE_PATH=" + folder +
		" HOLD_SERVER_PUBLIC_URL=http://localhost:1 HOLD_SERVER_TEST_MODE=true HOLD_REGISTRATION_OWNER_DID=did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	return e, rounds.JSON(ctx, &e, append([]string{self, childVerb, "command", environ, program}, args...)...)
}

var created = regexp.MustCompile(`(?m)^(\d+) records created`)

// importCommand imports a CAR into a new folder, in which few records of another CAR are already when that is named: a hold
// that was started has some.
func importCommand(ctx context.Context, program, folder, first, car string) (out outcome, err error) {
	if err := os.RemoveAll(folder); err != nil {
		return out, err
	}
	if first != "" {
		if _, err := onHold(ctx, program, folder, "repo", "import", "--any-key", first); err != nil {
			return out, err
		}
	}
	e, err := onHold(ctx, program, folder, "repo", "import", "--any-key", car)
	if err != nil {
		return out, err
	}
	m := created.FindSubmatch(e.Out)
	if m == nil {
		return out, fmt.Errorf("repo import says %q", e.Out)
	}
	out.MS, out.KiB = e.MS, e.KiB
	out.Records, err = strconv.ParseInt(string(m[1]), 10, 64)
	return out, err
}

// someRecords writes a CAR of few records that are in no other CAR here.
func someRecords(ctx context.Context, dir string) (string, error) {
	car, db := filepath.Join(dir, "some.car"), filepath.Join(dir, "some.db")
	r, shut, err := openRepo(ctx, db)
	if err != nil {
		return "", err
	}
	if err := errors.Join(writeLayers(ctx, r, 100_000_000, 3, 3), shut()); err != nil {
		return "", err
	}
	_, err = writeCAR(ctx, db, car)
	return car, err
}

// inputs are CARs to compare two programs with.
type inputs struct {
	dir, some, streaming, shuffled, key string
}

func (b *bench) makeInputs(ctx context.Context) (in *inputs, err error) {
	if b.inputs != nil {
		return b.inputs, nil
	}
	in = &inputs{dir: filepath.Join(b.Folder, "commands")}
	in.streaming, in.shuffled = filepath.Join(in.dir, "streaming.car"), filepath.Join(in.dir, "shuffled.car")
	if err := os.MkdirAll(in.dir, 0o700); err != nil {
		return nil, err
	}
	if in.some, err = someRecords(ctx, in.dir); err != nil {
		return nil, err
	}
	db, err := b.fill(ctx, b.records)
	if err != nil {
		return nil, err
	}
	if in.key, err = writeCAR(ctx, db, in.streaming); err != nil {
		return nil, err
	}
	if _, err = inChild(ctx, "shuffle", in.streaming, in.shuffled); err == nil {
		b.inputs = in
	}
	return in, err
}

// measureAgainst does the same with both programs, in random order.
func measureAgainst(ctx context.Context, b *bench) error {
	now, err := b.program(ctx)
	if err != nil {
		return err
	}
	in, err := b.makeInputs(ctx)
	if err != nil {
		return err
	}
	n := fmt.Sprintf("%d records", b.records)
	for _, row := range []struct {
		what  string
		least float64
		do    func(program, folder string) (outcome, error)
	}{
		{"atcr-hold repo import into a new hold, streaming order, " + n, 0.85, func(program, folder string) (outcome, error) {
			return importCommand(ctx, program, folder, "", in.streaming)
		}},
		{"atcr-hold repo import into a hold that was started, no order, " + n, 0.85, func(program, folder string) (outcome, error) {
			return importCommand(ctx, program, folder, in.some, in.shuffled)
		}},
		{"atcr-hold repo export, " + n, 0.95, func(program, folder string) (outcome, error) { // of what the row above left
			e, err := onHold(ctx, program, folder, "repo", "export", "-o", folder+".car")
			return outcome{MS: e.MS, KiB: e.KiB}, err
		}},
		{"atcr-hold repo verify, no order, " + n, 0.95, func(program, folder string) (outcome, error) {
			e, err := onHold(ctx, program, folder, "repo", "verify", "--key", in.key, in.shuffled)
			return outcome{MS: e.MS, KiB: e.KiB}, err
		}},
		{"atcr-hold repo verify, streaming order, " + n, 0.95, func(program, folder string) (outcome, error) {
			e, err := onHold(ctx, program, folder, "repo", "verify", "--key", in.key, in.streaming)
			return outcome{MS: e.MS, KiB: e.KiB}, err
		}},
	} {
		var got [2]outcome
		for _, i := range b.Rand.Perm(2) {
			program := []string{now, b.Against}[i]
			if got[i], err = row.do(program, filepath.Join(in.dir, strconv.Itoa(i))); err != nil {
				return err
			}
		}
		if got[0].Records != got[1].Records {
			return fmt.Errorf("%s: %d records, before %d", row.what, got[0].Records, got[1].Records)
		}
		b.Faster(rounds.Row{What: row.what, To: "before", Least: row.least, Unit: "ms"}, got[0].MS, got[1].MS)
		b.Memory(row.what, 0, got[0].KiB)
		b.Memory(row.what+" (before)", 0, got[1].KiB)
	}
	return nil
}
