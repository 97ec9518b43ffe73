package holdcli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"filippo.io/age"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity/backup"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/durable"
)

type showCommand struct{ cli.JSONFlag }

func (c *showCommand) Run(ctx context.Context, std *cli.IO, all *IdentityCommands) error {
	m, err := all.look(std)
	if err != nil {
		return err
	}
	rep, err := m.Describe(ctx)
	if err != nil {
		return err
	}
	return c.Print(std, rep, func() error { return printIdentity(std.Out, rep) })
}

func printIdentity(out io.Writer, rep *plc.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(what string, values ...string) {
		for i, v := range values {
			if i > 0 {
				what = ""
			}
			fmt.Fprintf(w, "%s\t%s\n", what, v)
		}
	}
	line("DID", rep.DID.String())
	line("public URL", rep.PublicURL)
	if rep.Handle != "" {
		line("handle", rep.Handle)
	}
	line("signing key", rep.SigningKey)
	for _, s := range rep.Document.Service {
		line("service "+s.ID, s.Type+" at "+s.ServiceEndpoint)
	}
	if rep.DID.Method() == "plc" {
		line("rotation key", orNone(rep.RotationKey))
		for i, k := range rep.RotationKeys {
			if k == rep.RotationKey {
				rep.RotationKeys[i] += " (ours)"
			}
		}
		line("may change it", rep.RotationKeys...)
		if !rep.MayRotate {
			line("", "this hold may not")
		}
	}
	line("differs", rep.Drift...)
	if rep.Pending {
		line("pending", "a key rotation is not finished: the hold goes on with it when it runs; its log says what is in the way. "+
			"Or stop it, and call rotate-key again")
	}
	line("warning", rep.Warnings...)
	return w.Flush()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

type logCommand struct{ cli.JSONFlag }

func (c *logCommand) Run(ctx context.Context, std *cli.IO, all *IdentityCommands) error {
	m, err := all.look(std)
	if err != nil {
		return err
	}
	history, err := m.History(ctx)
	if err != nil {
		return err
	}
	return c.Print(std, history, func() error { return printHistory(std.Out, history) })
}

func printHistory(w io.Writer, history []plc.Event) error {
	for _, e := range history {
		note := ""
		if e.Nullified {
			note = ", undone"
		}
		fmt.Fprintf(w, "%s  %s%s\n  signed by %s, rotation key %d\n", e.Time.UTC().Format(time.RFC3339), e.CID, note, e.Signer, e.Rank)
		for _, c := range e.Changes {
			fmt.Fprintln(w, "  "+c)
		}
	}
	return nil
}

type exportCommand struct {
	File       string   `arg:"" help:"File to write; - is standard output."`
	Recipient  []string `help:"age public key (age1…) that may read it; else a passphrase."`
	Passphrase string   `name:"passphrase-file" help:"File whose first line is the passphrase; else ATCR_PASSPHRASE." placeholder:"FILE"`
}

func (c *exportCommand) Run(std *cli.IO, all *IdentityCommands, work *Scrypt) error {
	r, err := all.open(std)
	if err != nil {
		return err
	}
	var to []age.Recipient
	for _, text := range c.Recipient {
		parsed, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil && !strings.HasPrefix(text, "age1") {
			return errors.New("--recipient is no public key of age (not shown, it may be a private one): write age1…")
		}
		if err != nil {
			return fmt.Errorf("--recipient %q: %w", text, err)
		}
		to = append(to, parsed...)
	}
	if len(to) == 0 {
		one, err := ByPassphrase(c.Passphrase, work.Work)
		if err != nil {
			return err
		}
		to = append(to, one)
	}
	var file bytes.Buffer
	if err := backup.Export(&file, r.cfg, to...); err != nil {
		return err
	}
	if c.File == "-" {
		_, err := r.std.Out.Write(file.Bytes())
		return err
	}
	err = durable.CreateFile(c.File, file.Bytes(), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already: name another file, or remove it first", c.File)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.std.Out, "written: %s. It is all that is needed to be this hold, and to change who it is: keep it "+
		"where the hold is not.\n", c.File)
	return err
}

type importCommand struct {
	cli.JSONFlag
	DryRun bool `help:"Say who would be imported; change nothing."`
	Unlock
	File string `arg:"" help:"File of an export; - is standard input."`
}

func (c *importCommand) Run(std *cli.IO, all *IdentityCommands) error {
	r, err := all.open(std)
	if err != nil {
		return err
	}
	keys, err := c.Keys()
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return cli.Usagef("give --passphrase-file FILE or ATCR_PASSPHRASE, or --age-key FILE")
	}
	in := std.In
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	return c.Opened(r.locked(func() error { return c.take(r, in, keys) }))
}

func (c *importCommand) take(r *identityRun, in io.Reader, keys []age.Identity) error {
	var file bytes.Buffer // a file of age to a public key may be anybody's: say whose key it is
	if _, err := io.Copy(&file, io.LimitReader(in, 2*backup.MaxFile)); err != nil {
		return err
	}
	did, key, err := backup.Check(bytes.NewReader(file.Bytes()), keys...)
	if err != nil {
		return err
	}
	text := "imported %s into %s\n"
	if c.DryRun {
		text = "dry run; this would become %s in %s\n"
	} else if _, err := backup.Import(&file, r.cfg, keys...); err != nil {
		return err
	}
	got := struct {
		DryRun     bool       `json:"dryRun"`
		DID        syntax.DID `json:"did"`
		SigningKey string     `json:"signingKey"`
		Folder     string     `json:"folder"`
	}{c.DryRun, did, key.DIDKey(), r.dir.Dir}
	return c.Print(r.std, got, func() error {
		_, err := fmt.Fprintf(r.std.Out, text+"its signing key is %s: compare it with what you noted\n", did, r.dir.Dir, key.DIDKey())
		return err
	})
}
