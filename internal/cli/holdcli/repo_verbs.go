package holdcli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/carv2"
	"github.com/atcr-dev/atcr/sqldb"
)

type RepoCommands struct {
	HoldFile

	Export  repoExportCommand  `cmd:"" help:"Write the repository as a CAR; also while the hold runs."`
	Import  repoImportCommand  `cmd:"" help:"Create and update the records of CARs in one commit; others stay. The hold must be stopped, unless its repository is in PostgreSQL (database.url)."`
	Verify  repoVerifyCommand  `cmd:"" help:"Check a repository: signature, tree, every block. The first error is told with its offset."`
	Ls      repoLsCommand      `cmd:"" help:"List collections, or the records of one."`
	Get     repoGetCommand     `cmd:"" help:"Print a record as JSON."`
	Diff    RepoDiffCommand    `cmd:"" help:"Tell what records differ between two CARs: - is in A only, + in B only, ~ in both."`
	JumpSeq repoJumpSeqCommand `cmd:"" help:"Raise the firehose's event number, after a restore. The hold must be stopped, unless its repository is in PostgreSQL."`
}

// read opens the repository, also of a running hold.
func (c *RepoCommands) read(ctx context.Context, std *cli.IO, f func(*datadir.OfflineRepo) error) error {
	return c.with(ctx, std, datadir.ReadRepo, f)
}

// write opens the repository of a stopped hold, or one in PostgreSQL.
func (c *RepoCommands) write(ctx context.Context, std *cli.IO, f func(*datadir.OfflineRepo) error) error {
	return c.with(ctx, std, datadir.OpenRepo, f)
}

func (c *RepoCommands) with(ctx context.Context, std *cli.IO,
	open func(context.Context, datadir.Config) (*datadir.OfflineRepo, error), f func(*datadir.OfflineRepo) error) error {
	settled, h, err := c.load(std)
	if err != nil {
		return err
	}
	dir, err := h.DataDir()
	if err != nil {
		return err
	}
	return WithDatabase(ctx, settled, func(db *sqldb.DB) error {
		dir.DB = db
		o, err := open(ctx, dir)
		if err != nil {
			return err
		}
		return errors.Join(f(o), o.Close())
	})
}

type repoExportCommand struct {
	Output string `short:"o" help:"File to write; without, standard output. It appears when it is whole." placeholder:"FILE"`
	Since  string `help:"Only what is newer than this revision." placeholder:"REV"`
	Blobs  bool   `default:"true" negatable:"" help:"With the blobs that records name (not layers)."`
}

func (c *repoExportCommand) Run(ctx context.Context, std *cli.IO, all *RepoCommands) error {
	return all.read(ctx, std, func(from *datadir.OfflineRepo) (err error) {
		bar := std.Progress()
		defer func() { bar.Done(err) }()
		total := int64(0)                 // of what is newer: unknown
		if c.Since == "" && bar.Shown() { // counting takes a tenth of the export's time
			if total, err = from.Records(ctx); err != nil {
				return err
			}
		}
		o := &repo.ExportOptions{Since: c.Since, Blobs: c.Blobs, Progress: func(records, _ int64) { bar.Count("records", records, total) }}
		if c.Output == "" {
			return repo.ExportCAR(ctx, from.Repo, std.Out, o)
		}
		return c.toFile(func(w io.Writer) error { return repo.ExportCAR(ctx, from.Repo, w, o) })
	})
}

// toFile makes the file appear when it is whole.
func (c *repoExportCommand) toFile(write func(io.Writer) error) error {
	dir, name := filepath.Split(c.Output)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it was renamed
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), c.Output); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

type repoImportCommand struct {
	cli.JSONFlag
	Files  []string `arg:"" name:"file" help:"CARs (CARv1 or CARv2), of this hold or others; - is standard input. The last one wins."`
	DryRun bool     `help:"Say what would change; change nothing."`
	Key    string   `help:"did:key that must have signed the CARs; else the one of the CAR's DID." placeholder:"KEY"`
	AnyKey bool     `help:"Don't look at signatures."`
	Blobs  string   `help:"Folder with the blobs that records name, each in a file named by its CID." placeholder:"DIR" type:"path"`
}

func (c *repoImportCommand) Run(ctx context.Context, std *cli.IO, all *RepoCommands) error {
	return all.write(ctx, std, func(to *datadir.OfflineRepo) error { return c.importCARs(ctx, std, all, to.Repo) })
}

func (o *repoImportCommand) importCARs(ctx context.Context, std *cli.IO, all *RepoCommands, to *repo.Repo) (err error) {
	key, err := publicKey(o.Key)
	if err != nil {
		return err
	}
	_, h, err := all.load(std)
	if err != nil {
		return err
	}
	bar := std.Progress()
	defer func() { bar.Done(err) }()
	net := &network{hold: h, stderr: bar}
	var srcs []repo.Source
	for _, name := range o.Files {
		f, err := open(std, name)
		if err != nil {
			return err
		}
		defer f.Close()
		src, err := carv2.Unwrap(repo.Source{Reader: bar.File(ctx, "read "+name, f), Name: name, Key: key})
		if err != nil {
			return err
		}
		srcs = append(srcs, src)
	}
	im := repo.Importer{DryRun: o.DryRun, AnyKey: o.AnyKey, KeyOf: net.keyOf,
		Progress: func(done, total int64) { bar.Count("records", done, total) }}
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
	bar.Done(err)
	if err != nil {
		return err
	}
	return o.Print(std, ImportedJSON(got, o.DryRun), func() error { return o.print(std, got) })
}

func (o *repoImportCommand) print(std *cli.IO, got repo.Imported) error {
	out := bufio.NewWriter(std.Out)
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

func open(std *cli.IO, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(std.In), nil
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

type repoLsCommand struct {
	cli.JSONFlag
	Collection string `arg:"" optional:"" help:"Without: the collections."`
}

func (c *repoLsCommand) Run(ctx context.Context, std *cli.IO, all *RepoCommands) error {
	return all.read(ctx, std, func(from *datadir.OfflineRepo) error { return c.list(ctx, std, from.Repo) })
}

func (c *repoLsCommand) list(ctx context.Context, std *cli.IO, from *repo.Repo) error {
	out := bufio.NewWriter(std.Out)
	if c.Collection == "" {
		names, err := from.Collections(ctx)
		if err != nil {
			return err
		}
		return c.Print(std, append([]string{}, names...), func() error {
			for _, n := range names {
				fmt.Fprintln(out, n)
			}
			return out.Flush()
		})
	}
	if c.JSON {
		return RecordsJSON(std.Out, from.List(ctx, c.Collection, "", false))
	}
	for rec, err := range from.List(ctx, c.Collection, "", false) {
		if err != nil {
			return err
		}
		fmt.Fprintln(out, rec.Path(), rec.CID)
	}
	return out.Flush()
}

type repoGetCommand struct {
	Path string `arg:"" help:"collection/rkey."`
}

func (c *repoGetCommand) Run(ctx context.Context, std *cli.IO, all *RepoCommands) error {
	coll, rkey, ok := strings.Cut(c.Path, "/")
	if !ok {
		return cli.Usagef("%q: want collection/rkey", c.Path)
	}
	return all.read(ctx, std, func(from *datadir.OfflineRepo) error { return c.get(ctx, std, from.Repo, coll, rkey) })
}

func (c *repoGetCommand) get(ctx context.Context, std *cli.IO, from *repo.Repo, coll, rkey string) error {
	rec, err := from.Get(ctx, coll, rkey)
	if err != nil {
		return err
	}
	js, err := rec.JSON()
	if err == nil {
		_, err = fmt.Fprintf(std.Out, "%s\n", js)
	}
	return err
}

type RepoDiffCommand struct {
	cli.JSONFlag
	A string `arg:"" help:"CAR."`
	B string `arg:"" help:"CAR."`
}

func (c *RepoDiffCommand) Run(ctx context.Context, std *cli.IO) error {
	var cars [2]*repo.CAR
	for i, name := range []string{c.A, c.B} {
		f, err := open(std, name)
		if err != nil {
			return err
		}
		defer f.Close()
		src, err := carv2.Unwrap(repo.Source{Reader: f, Name: name, AnyKey: true})
		if err != nil {
			return err
		}
		if cars[i], err = repo.OpenCAR(ctx, src); err != nil {
			return err
		}
		defer cars[i].Close() //nolint:errcheck // a temporary file
	}
	if c.JSON {
		list := newJSONList(std.Out)
		for d, err := range repo.Diff(ctx, cars[0], cars[1]) {
			if err == nil {
				err = list.add(newRecordDiff(d))
			}
			if err != nil {
				return err
			}
		}
		return list.close()
	}
	out := bufio.NewWriter(std.Out)
	for d, err := range repo.Diff(ctx, cars[0], cars[1]) {
		sign := "~"
		switch {
		case d.B == nil:
			sign = "-"
		case d.A == nil:
			sign = "+"
		}
		if err == nil {
			_, err = fmt.Fprintln(out, sign, d.Path)
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
	}
	return out.Flush()
}

func newRecordDiff(d repo.Difference) recordDiff {
	r := recordDiff{Path: d.Path}
	if d.A != nil {
		r.A = d.A.CID.String()
	}
	if d.B != nil {
		r.B = d.B.CID.String()
	}
	return r
}

type repoJumpSeqCommand struct {
	Seq int64 `arg:"" help:"Number that the next event gets at least."`
}

func (c *repoJumpSeqCommand) Run(ctx context.Context, std *cli.IO, all *RepoCommands) error {
	return all.write(ctx, std, func(to *datadir.OfflineRepo) error {
		if err := to.Repo.JumpSeq(ctx, c.Seq); err != nil {
			return err
		}
		seq, err := to.Repo.Seq(ctx)
		if err == nil {
			_, err = fmt.Fprintln(std.Out, "the next event comes after number", seq)
		}
		return err
	})
}
