package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/bench/internal/rounds"
	"github.com/atcr-dev/atcr/repo"
)

// childVerb as first argument makes this program a child: one piece of work, whose time and memory it prints.
const childVerb = "child"

// did of the repositories that are made here.
const did = "did:web:bench.example"

// outcome is a child's line.
type outcome struct {
	MS      float64
	Records int64
	KiB     int64 // peak
}

// child does one piece of work:
//
//	import CAR DB      a CAR of anyone into a new database
//	export DB          all of a database, to nowhere
//	verify CAR KEY     a CAR
//	shuffle CAR OUT    a CAR's blocks in no order
//	command ENV ARGS…  a program with what stands in ENV, separated by spaces, in its environment
//	firehose N         see serveFirehose
func child(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("child: %q", args)
	}
	var out outcome
	var err error
	switch verb := args[0]; verb {
	case "import":
		out, err = importCAR(ctx, args[1], args[2])
	case "export":
		out, err = exportCAR(ctx, args[1])
	case "verify":
		out, err = verifyCAR(ctx, args[1], args[2])
	case "shuffle":
		err = shuffleCAR(args[1], args[2])
	case "command":
		e, err := rounds.Command(ctx, strings.Fields(args[1]), args[2:]...)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(e)
	case "firehose":
		return serveFirehose(ctx, args[1])
	default:
		err = fmt.Errorf("child: unknown %q", verb)
	}
	if err != nil {
		return err
	}
	_, out.KiB = rounds.Memory(os.Getpid())
	return json.NewEncoder(os.Stdout).Encode(out)
}

// inChild runs this program as a child to its end.
func inChild(ctx context.Context, args ...string) (out outcome, err error) {
	self, err := os.Executable()
	if err != nil {
		return out, err
	}
	rounds.SyncDisk()
	return out, rounds.JSON(ctx, &out, append([]string{self, childVerb}, args...)...)
}

func importCAR(ctx context.Context, car, db string) (out outcome, err error) {
	f, err := os.Open(car)
	if err != nil {
		return out, err
	}
	defer f.Close()
	began := time.Now()
	r, shut, err := openRepo(ctx, db)
	if err != nil {
		return out, err
	}
	got, err := repo.Importer{AnyKey: true}.Import(ctx, r, repo.Source{Reader: f})
	if err = errors.Join(err, shut()); err != nil {
		return out, err
	}
	return outcome{MS: since(began), Records: got.Created}, nil
}

func exportCAR(ctx context.Context, db string) (out outcome, err error) {
	began := time.Now()
	r, shut, err := openRepo(ctx, db)
	if err != nil {
		return out, err
	}
	err = repo.ExportCAR(ctx, r, io.Discard, &repo.ExportOptions{Progress: func(records, _ int64) { out.Records = records }})
	out.MS = since(began)
	return out, errors.Join(err, shut())
}

func verifyCAR(ctx context.Context, car, key string) (out outcome, err error) {
	pub, err := atcrypto.ParsePublicDIDKey(key)
	if err != nil {
		return out, err
	}
	f, err := os.Open(car)
	if err != nil {
		return out, err
	}
	defer f.Close()
	began := time.Now()
	info, err := repo.VerifyCAR(ctx, repo.Source{Reader: f, Key: pub})
	return outcome{MS: since(began), Records: info.Records}, err
}

func since(t time.Time) float64 { return float64(time.Since(t).Microseconds()) / 1000 }
