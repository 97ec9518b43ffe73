package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/repo"
)

type repoCommands struct {
	Config string `help:"Configuration file of the hold." placeholder:"FILE"`

	Export struct {
		Output string `short:"o" help:"File to write; without, standard output. It appears when it is whole." placeholder:"FILE"`
		Since  string `help:"Only what is newer than this revision." placeholder:"REV"`
		Blobs  bool   `default:"true" negatable:"" help:"With the blobs that records name (not layers)."`
	} `cmd:"" help:"Write the repository as a CAR; also while the hold runs."`
	Import struct {
		Files  []string `arg:"" name:"file" help:"CARs, of this hold or others; - is standard input. The last one wins."`
		DryRun bool     `help:"Say what would change; change nothing."`
		Key    string   `help:"did:key that must have signed the CARs; else the one of the CAR's DID." placeholder:"KEY"`
		AnyKey bool     `help:"Don't look at signatures."`
		Blobs  string   `help:"Folder with the blobs that records name, each in a file named by its CID." placeholder:"DIR" type:"path"`
	} `cmd:"" help:"Create and update the records of CARs in one commit; others stay. The hold must be stopped, unless its repository is in PostgreSQL (database.url)."`
	Verify struct {
		What string `arg:"" name:"file|did" help:"CAR to check; - is standard input. Or the DID of any account, whose repository is then fetched from its server."`
		DID  string `name:"did" help:"Whose the CAR must be."`
		Key  string `help:"did:key that must have signed it; else the one of the CAR's DID." placeholder:"KEY"`
	} `cmd:"" help:"Check a repository: signature, tree, every block. The first error is told with its offset."`
	Ls struct {
		Collection string `arg:"" optional:"" help:"Without: the collections."`
	} `cmd:"" help:"List collections, or the records of one."`
	Get struct {
		Path string `arg:"" help:"collection/rkey."`
	} `cmd:"" help:"Print a record as JSON."`
	Diff struct {
		A string `arg:"" help:"CAR."`
		B string `arg:"" help:"CAR."`
	} `cmd:"" help:"Tell what records differ between two CARs: - is in A only, + in B only, ~ in both."`
	JumpSeq struct {
		Seq int64 `arg:"" help:"Number that the next event gets at least."`
	} `cmd:"" help:"Raise the firehose's event number, after a restore. The hold must be stopped, unless its repository is in PostgreSQL."`
}

type repoRun struct {
	c      *repoCommands
	hold   hold.Config
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

func runRepo(ctx context.Context, verb string, c *repoCommands, stdin io.Reader, stdout, stderr io.Writer) error {
	r := &repoRun{c: c, stdin: stdin, stdout: stdout, stderr: stderr}
	verb, _, _ = strings.Cut(verb, " ")
	if verb == "diff" {
		return r.diff(ctx)
	}
	settled, _, err := config.LoadHold(c.Config, os.Environ())
	if err != nil {
		return err
	}
	r.hold = settings(settled, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	switch verb {
	case "verify":
		return r.verify(ctx)
	case "import", "jump-seq":
		return r.with(ctx, hold.OpenRepo, map[string]func(context.Context, *repo.Repo) error{"import": r.importCARs, "jump-seq": r.jumpSeq}[verb])
	}
	return r.with(ctx, hold.ReadRepo, map[string]func(context.Context, *repo.Repo) error{"export": r.export, "ls": r.ls, "get": r.get}[verb])
}

func (r *repoRun) with(ctx context.Context, open func(context.Context, hold.Config) (*hold.OfflineRepo, error), f func(context.Context, *repo.Repo) error) error {
	o, err := open(ctx, r.hold)
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, o.Repo), o.Close())
}

func (r *repoRun) export(ctx context.Context, from *repo.Repo) error {
	o := &repo.ExportOptions{Since: r.c.Export.Since, Blobs: r.c.Export.Blobs, Progress: r.progress()}
	if r.c.Export.Output == "" {
		return repo.ExportCAR(ctx, from, r.stdout, o)
	}
	dir, name := filepath.Split(r.c.Export.Output)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it was renamed
	err = repo.ExportCAR(ctx, from, f, o)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), r.c.Export.Output); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// progress tells people on a terminal how far it is.
func (r *repoRun) progress() func(records, bytes int64) {
	f, ok := r.stderr.(*os.File)
	if !ok {
		return nil
	}
	if st, err := f.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return func(records, bytes int64) { fmt.Fprintf(r.stderr, "\r%d records, %d MB ", records, bytes>>20) }
}

func (r *repoRun) importCARs(ctx context.Context, to *repo.Repo) error {
	o := r.c.Import
	key, err := publicKey(o.Key)
	if err != nil {
		return err
	}
	var srcs []repo.Source
	for _, name := range o.Files {
		f, err := r.open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		srcs = append(srcs, repo.Source{Reader: f, Name: name, Key: key})
	}
	im := repo.Importer{DryRun: o.DryRun, AnyKey: o.AnyKey, KeyOf: r.keyOf}
	if o.Blobs != "" {
		im.Blob = func(c repo.CID) ([]byte, error) {
			data, err := os.ReadFile(filepath.Join(o.Blobs, c.String()))
			if errors.Is(err, os.ErrNotExist) {
				err = repo.ErrNotFound
			}
			return data, err
		}
	}
	got, err := im.Import(ctx, to, srcs...)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(r.stdout)
	if o.DryRun {
		for _, k := range got.Keys {
			fmt.Fprintln(out, k.Action, k.Path)
		}
	}
	would := ""
	if o.DryRun {
		would = "would be "
	}
	fmt.Fprintf(out, "%d records %screated, %d updated, %d unchanged\n", got.Created, would, got.Updated, got.Unchanged)
	if got.Commit.CID.Defined() {
		fmt.Fprintf(out, "commit %s, revision %s\n", got.Commit.CID, got.Commit.Rev)
	}
	return out.Flush()
}

func (r *repoRun) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(r.stdin), nil
	}
	return os.Open(name)
}

func publicKey(didKey string) (atcrypto.PublicKey, error) {
	if didKey == "" {
		return nil, nil
	}
	key, err := atcrypto.ParsePublicDIDKey(didKey)
	if err != nil {
		return nil, fmt.Errorf("--key %q: want did:key:z…: %w", didKey, err)
	}
	return key, nil
}

func (r *repoRun) ls(ctx context.Context, from *repo.Repo) error {
	out := bufio.NewWriter(r.stdout)
	if r.c.Ls.Collection == "" {
		names, err := from.Collections(ctx)
		for _, n := range names {
			fmt.Fprintln(out, n)
		}
		return errors.Join(err, out.Flush())
	}
	for rec, err := range from.List(ctx, r.c.Ls.Collection, "", false) {
		if err != nil {
			return err
		}
		fmt.Fprintln(out, rec.Path(), rec.CID)
	}
	return out.Flush()
}

func (r *repoRun) get(ctx context.Context, from *repo.Repo) error {
	coll, rkey, ok := strings.Cut(r.c.Get.Path, "/")
	if !ok {
		return fmt.Errorf("%q: want collection/rkey", r.c.Get.Path)
	}
	rec, err := from.Get(ctx, coll, rkey)
	if err != nil {
		return err
	}
	js, err := rec.JSON()
	if err == nil {
		_, err = fmt.Fprintf(r.stdout, "%s\n", js)
	}
	return err
}

// diff walks two CARs side by side.
func (r *repoRun) diff(ctx context.Context) error {
	var next [2]func() (repo.Record, error, bool)
	for i, name := range []string{r.c.Diff.A, r.c.Diff.B} {
		f, err := r.open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		car, err := repo.OpenCAR(ctx, repo.Source{Reader: f, Name: name})
		if err != nil {
			return err
		}
		defer car.Close() //nolint:errcheck // a temporary file
		n, stop := iter.Pull2(car.Records(ctx))
		defer stop()
		next[i] = n
	}
	out := bufio.NewWriter(r.stdout)
	a, err, moreA := next[0]()
	b, errB, moreB := next[1]()
	for err = errors.Join(err, errB); err == nil && (moreA || moreB); {
		order := strings.Compare(a.Path(), b.Path())
		switch {
		case !moreB || moreA && order < 0:
			fmt.Fprintln(out, "-", a.Path())
			a, err, moreA = next[0]()
			continue
		case !moreA || order > 0:
			fmt.Fprintln(out, "+", b.Path())
			b, err, moreB = next[1]()
			continue
		case a.CID != b.CID:
			fmt.Fprintln(out, "~", a.Path())
		}
		a, err, moreA = next[0]()
		b, errB, moreB = next[1]()
		err = errors.Join(err, errB)
	}
	return errors.Join(err, out.Flush())
}

func (r *repoRun) jumpSeq(ctx context.Context, to *repo.Repo) error {
	if err := to.JumpSeq(ctx, r.c.JumpSeq.Seq); err != nil {
		return err
	}
	seq, err := to.Seq(ctx)
	if err == nil {
		_, err = fmt.Fprintln(r.stdout, "the next event comes after number", seq)
	}
	return err
}
