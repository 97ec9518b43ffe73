package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"filippo.io/age"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/backup"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/durable"
)

type showCommand struct{ cli.JSONFlag }

func (c *showCommand) Run(ctx context.Context, std *cli.IO, all *identityCommands) error {
	r, id, err := all.with(std)
	if err != nil {
		return err
	}
	rep, err := identity.Describe(ctx, id, r.cfg)
	if err != nil {
		return err
	}
	return c.Print(std, rep, func() error { return printIdentity(std.Out, rep) })
}

func printIdentity(out io.Writer, rep *identity.Report) error {
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
		line("pending", "a key rotation is not finished: the hold goes on with it when it runs; its log says what is in the way. Or stop it, and call rotate-key again")
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

func (c *logCommand) Run(ctx context.Context, std *cli.IO, all *identityCommands) error {
	r, id, err := all.with(std)
	if err != nil {
		return err
	}
	log, err := identity.ReadPLCLog(ctx, id, r.cfg)
	if err != nil {
		return err
	}
	history := log.History()
	return c.Print(std, history, func() error { return printHistory(std.Out, history) })
}

func printHistory(w io.Writer, history []identity.PLCEvent) error {
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

func (c *exportCommand) Run(std *cli.IO, all *identityCommands, work *scrypt) error {
	r, err := all.open(std)
	if err != nil {
		return err
	}
	var to []age.Recipient
	for _, text := range c.Recipient {
		parsed, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return fmt.Errorf("--recipient %q: %w", text, err)
		}
		to = append(to, parsed...)
	}
	if len(to) == 0 {
		one, err := byPassphrase(c.Passphrase, work.work)
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
	if err := durable.CreateFile(c.File, file.Bytes(), 0o600); err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.std.Out, "written: %s. It is all that is needed to be this hold, and to change who it is: keep it where the hold is not.\n", c.File)
	return err
}

type importCommand struct {
	change
	File       string `arg:"" help:"File of an export; - is standard input."`
	AgeKey     string `help:"File of age private keys; else a passphrase." placeholder:"FILE"`
	Passphrase string `name:"passphrase-file" help:"File whose first line is the passphrase; else ATCR_PASSPHRASE." placeholder:"FILE"`
}

func (c *importCommand) Run(std *cli.IO, all *identityCommands) error {
	r, err := all.open(std)
	if err != nil {
		return err
	}
	return r.locked(func() error { return r.importFile(c) })
}

func (r *identityRun) importFile(c *importCommand) error {
	var keys []age.Identity
	if c.AgeKey != "" {
		f, err := os.Open(c.AgeKey)
		if err != nil {
			return err
		}
		defer f.Close()
		if keys, err = age.ParseIdentities(f); err != nil {
			return fmt.Errorf("--age-key %s: %w", c.AgeKey, err)
		}
	} else {
		secret, err := passphrase(c.Passphrase)
		if err != nil {
			return err
		}
		one, err := age.NewScryptIdentity(secret)
		if err != nil {
			return err
		}
		keys = append(keys, one)
	}
	in := r.std.In
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	if c.DryRun {
		did, _, err := backup.Check(in, keys...)
		if err == nil {
			_, err = fmt.Fprintf(r.std.Out, "dry run; this would become %s in %s\n", did, r.dir.Dir)
		}
		return err
	}
	did, err := backup.Import(in, r.cfg, keys...)
	if err == nil {
		_, err = fmt.Fprintf(r.std.Out, "imported %s into %s\n", did, r.dir.Dir)
	}
	return err
}

// byPassphrase encrypts by the passphrase; work is its work factor, 0 age's own.
func byPassphrase(file string, work int) (age.Recipient, error) {
	secret, err := passphrase(file)
	if err != nil {
		return nil, err
	}
	r, err := age.NewScryptRecipient(secret)
	if err == nil && work > 0 {
		r.SetWorkFactor(work)
	}
	return r, err
}

func passphrase(file string) (string, error) {
	secret := os.Getenv("ATCR_PASSPHRASE")
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		if secret, err = firstLine(f); err != nil {
			return "", fmt.Errorf("--passphrase-file %s: %w", file, err)
		}
	}
	if secret == "" {
		return "", errors.New("no passphrase: give --passphrase-file FILE or ATCR_PASSPHRASE, or a key of age")
	}
	return secret, nil
}

func firstLine(r io.Reader) (string, error) {
	text, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(text), nil
}
