package holdcli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"filippo.io/age"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold"
	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/backup/s3target"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/config"
)

// OpenTarget opens a folder or a bucket, to write sets to it.
func OpenTarget(to string, b config.Backup) (backup.Target, error) {
	switch {
	case to == "":
		return nil, cli.Usagef("name a folder or s3://bucket/prefix, or set backup.to")
	case strings.HasPrefix(to, "s3:"):
		t, err := s3target.Open(to, s3target.Options{Endpoint: b.Endpoint, Region: b.Region, AccessKey: b.AccessKey,
			SecretKey: b.SecretKey})
		if err != nil {
			return nil, fmt.Errorf("backups (backup.endpoint, backup.region, backup.access_key, backup.secret_key): %w", err)
		}
		return t, nil
	case strings.Contains(to, "://"):
		return nil, fmt.Errorf("%s: name a folder or s3://bucket/prefix", config.Shown(to))
	}
	return backup.OpenFolder(to)
}

// BackupOptions are those of the configuration.
func BackupOptions(c *config.Hold, log *slog.Logger) (backup.Options, error) {
	o := backup.Options{Layers: c.Backup.Layers, Keep: c.Backup.Keep, Version: config.Version(), Log: log, Trusted: c.Backup.Trust}
	if err := signingKeys("backup.trust", c.Backup.Trust); err != nil {
		return o, err
	}
	var text bytes.Buffer
	if err := config.Write(&text, config.YAML, c); err != nil {
		return o, err
	}
	o.Config = text.Bytes()
	return o, Recipient(&o, "backup.recipient", c.Backup.Recipient)
}

// Recipient sets who may read the identity: an age public key, or none to leave it out. Empty: as it is.
func Recipient(o *backup.Options, from, text string) error {
	switch text {
	case "":
		return nil
	case config.NoRecipient:
		o.Recipients, o.NoIdentity = nil, true
		o.Log.Warn("the identity is left out of the backup: without an export of your own (atcr-hold identity export) a lost hold " +
			"does not come back as itself")
		return nil
	}
	to, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil && !strings.HasPrefix(text, "age1") {
		return fmt.Errorf("%s is no public key of age (not shown, it may be a private one): write age1…, or none", from)
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", from, text, err)
	}
	o.Recipients, o.NoIdentity = to, false
	return nil
}

// Schedule is the backups of the running hold; nil: none.
func Schedule(c *config.Hold, log *slog.Logger) (*hold.BackupSchedule, error) {
	if c.Backup.Every == 0 {
		return nil, nil
	}
	o, err := BackupOptions(c, log)
	if err != nil {
		return nil, err
	}
	return &hold.BackupSchedule{
		Every: c.Backup.Every, Run: o.Job(func(context.Context) (backup.Target, error) { return OpenTarget(c.Backup.To, c.Backup) }),
	}, nil
}

// ReadTarget is OpenTarget for sets that are there: it makes no folder.
func ReadTarget(from string, b config.Backup) (backup.Target, error) {
	if from != "" && !strings.Contains(from, "://") && !strings.HasPrefix(from, "s3:") {
		if st, err := os.Stat(from); err != nil {
			return nil, fmt.Errorf("there are no backups: %w", err)
		} else if !st.IsDir() {
			return nil, fmt.Errorf("%s is a file: name the folder of the backups, in which sets/ lies", from)
		}
	}
	return OpenTarget(from, b)
}

// Describe is a set on one line.
func Describe(m *backup.Manifest) string {
	text := fmt.Sprintf("%s, revision %s, %d records", m.DID, m.Rev, m.Records)
	if l := m.Layers; l != nil {
		text += fmt.Sprintf(", %d layers of %d bytes (%d new)", l.Count, l.Bytes, l.Copied)
		if l.Missing > 0 {
			text += fmt.Sprintf(", %d LAYERS MISSING", l.Missing)
		}
	}
	if !m.HasIdentity() {
		text += ", NO IDENTITY"
	}
	if !m.Signed() {
		text += ", NOT SIGNED"
	}
	return text
}

// ListedSet is a set as `backup list` shows it.
type ListedSet struct {
	Name     string           `json:"name"`
	Whole    bool             `json:"whole"`
	Error    string           `json:"error,omitempty"`
	Manifest *backup.Manifest `json:"manifest,omitempty"`
}

// PrintSets prints the sets of a target.
func PrintSets(std *cli.IO, flag cli.JSONFlag, t backup.Target, sets []backup.Set) error {
	all := []ListedSet{}
	for _, s := range sets {
		one := ListedSet{Name: s.Name, Whole: s.Whole(), Manifest: s.Manifest}
		if s.Err != nil {
			one.Error = s.Err.Error()
		}
		all = append(all, one)
	}
	return flag.Print(std, all, func() error {
		if len(all) == 0 {
			_, err := fmt.Fprintf(std.Out, "no backups in %s\n", t)
			return err
		}
		w := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
		for _, s := range all {
			text := "not whole: broken off, or being made"
			switch {
			case s.Error != "":
				text = s.Error
			case s.Whole:
				text = s.Manifest.Created.Format(time.RFC3339) + "\t" + Describe(s.Manifest)
			}
			fmt.Fprintf(w, "%s\t%s\n", s.Name, text)
		}
		return w.Flush()
	})
}

// Progress shows how far a backup or a restore is.
func Progress(bar *cli.Progress) backup.Progress {
	return func(what string, done, total int64) {
		if what == "layers" {
			bar.Bytes(what, done, total)
		} else {
			bar.Count(what, done, total)
		}
	}
}

// restoredJSON is what `restore --json` prints.
func restoredJSON(res *backup.Restored, dir string, dryRun bool) any {
	out := struct {
		DryRun   bool             `json:"dryRun"`
		Folder   string           `json:"folder"`
		Manifest *backup.Manifest `json:"manifest"`
		Commit   string           `json:"commit,omitempty"` // that the restore made
		Rev      string           `json:"rev,omitempty"`
		Layers   int64            `json:"layers"`  // brought, or to be brought
		Present  int64            `json:"present"` // were there
		Missing  int64            `json:"missing"`
		First    []digest.Digest  `json:"firstMissing"` // the first hundred
	}{DryRun: dryRun, Folder: dir, Manifest: res.Manifest, Layers: res.Layers, Present: res.Present, Missing: res.Missing,
		First: append([]digest.Digest{}, res.First...)}
	if res.Commit.CID.Defined() {
		out.Commit, out.Rev = res.Commit.CID.String(), res.Commit.Rev
	}
	return out
}

// printRestored prints what a restore into a folder did, or would do.
func printRestored(out io.Writer, res *backup.Restored, dir string, dryRun bool) error {
	done := "restored"
	if dryRun {
		done = "dry run; this would be restored"
	}
	_, err := fmt.Fprintf(out, "%s into %s: %s\n", done, dir, Describe(res.Manifest))
	if err == nil && res.Layers+res.Present > 0 {
		_, err = fmt.Fprintf(out, "layers: %d brought, %d were there\n", res.Layers, res.Present)
	}
	return err
}

func warnMissing(w io.Writer, res *backup.Restored) {
	if res.Missing == 0 {
		return
	}
	fmt.Fprintf(w, "warning: %d layers that records name are not in the storage; images with them can't be pulled:\n", res.Missing)
	for _, d := range res.First {
		fmt.Fprintln(w, " ", d)
	}
}
