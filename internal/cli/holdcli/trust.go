package holdcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/hold/backup"
	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/identity/plc"
	"github.com/atcr-dev/atcr/internal/cli"
	"github.com/atcr-dev/atcr/internal/config"
	"github.com/atcr-dev/atcr/internal/httpx"
)

// TrustFlags say which sets are taken.
type TrustFlags struct {
	Trust    []string `help:"Signing key of the hold (did:key:…) as you know it, not as the backups say; may be given again. Else backup.trust, else the DID document." placeholder:"KEY" sep:"none"`
	Older    bool     `help:"Take a set older than twice backup.every (7 days without it), or than another one there: who lost rights since then has them again."`
	Ahead    bool     `help:"Take a set whose event numbers are more than a day ahead of its time, as of a hold whose clock was wrong once."`
	Unsigned bool     `help:"Take a set of before sets were signed. Anybody who can write to the target may have made it."`
}

const (
	// askLimit bounds the question for a DID document.
	askLimit = 10 * time.Second
	// rotationSlack is how far the directory's time of a key rotation and the hold's may lie apart.
	rotationSlack = time.Hour
)

// trust is what sets are held against. Keys that were named decide alone. Otherwise the key of own, the identity on this machine, counts,
// and the document of did, the DID that the hold has by what its operator wrote: both may be absent. c is never what a set says.
func (f *TrustFlags) trust(c *config.Hold, did syntax.DID, own *identity.Identity) (backup.Trust, error) {
	tr := backup.Trust{Older: f.Older, Ahead: f.Ahead, Unsigned: f.Unsigned, MaxAge: 2 * c.Backup.Every, Keys: f.Trust, DID: did}
	from := "--trust"
	if len(tr.Keys) == 0 {
		tr.Keys, from = c.Backup.Trust, "backup.trust"
	}
	if len(tr.Keys) > 0 {
		return tr, signingKeys(from, tr.Keys)
	}
	tr.Document = documents(c)
	if own != nil {
		pub, err := own.Key.PublicKey()
		if err != nil {
			return tr, err
		}
		tr.Keys = []string{pub.DIDKey()}
	}
	return tr, nil
}

// signingKeys refuses what are no public keys.
func signingKeys(from string, keys []string) error {
	for _, k := range keys {
		if _, err := atcrypto.ParsePublicDIDKey(k); err != nil {
			return fmt.Errorf("%s: an element is no public key (not shown, it may be a private one): write did:key:z…", from)
		}
	}
	return nil
}

// documents asks for DID documents as the hold would, each once: the log of a did:plc, what a did:web shows now.
func documents(c *config.Hold) func(context.Context, syntax.DID, time.Time) ([]string, error) {
	guard := httpx.Guard{Loopback: c.Server.TestMode, Allow: c.Network.Prefixes()}
	if c.Server.TestMode {
		guard.Hosts = httpx.HostsOf(c.Identity.PLCDirectoryURL)
	}
	client := httpx.NewClient(httpx.ClientOptions{Guard: guard, Timeout: askLimit, UserAgent: "atcr-hold"})
	directory := plc.Client{URL: c.Identity.PLCDirectoryURL, HTTP: client}
	web := identity.NewResolver(identity.ResolverOptions{HTTP: client, TestMode: c.Server.TestMode, Log: slog.New(slog.DiscardHandler)})
	logs := map[syntax.DID]*plc.Log{}
	return func(ctx context.Context, did syntax.DID, at time.Time) ([]string, error) {
		if did.Method() != "plc" {
			who, err := web.LookupDID(ctx, did)
			if err != nil {
				return nil, err
			}
			key, err := who.PublicKey()
			if err != nil {
				return nil, err
			}
			return []string{key.DIDKey()}, nil
		}
		if logs[did] == nil {
			log, err := directory.Log(ctx, did)
			if err != nil {
				return nil, err
			}
			logs[did] = log
		}
		return logs[did].SigningKeysAt(at, rotationSlack), nil
	}
}

// knownIdentity is the hold's DID by configuration and folder, empty when it is not known, and what is in the folder; nil: none.
func knownIdentity(dir datadir.Config) (syntax.DID, *identity.Identity) {
	quiet := dir.Identity
	quiet.Log = slog.New(slog.DiscardHandler)
	did, _, err := identity.Check(quiet)
	if err != nil {
		return "", nil
	}
	if begun, err := datadir.RestoreInProgress(dir.Dir); err != nil || begun != "" {
		return did, nil // its keys are of a set
	}
	own, err := identity.Load(quiet)
	if err != nil {
		return did, nil
	}
	return did, own
}

// refused adds to an error what may be given.
func (f *TrustFlags) refused(err error) error {
	switch {
	case errors.Is(err, backup.ErrUntrusted) && len(f.Trust) > 0:
		return fmt.Errorf("%w\n--trust names other keys", err)
	case errors.Is(err, backup.ErrUntrusted):
		return fmt.Errorf("%w\nif you know that key as the hold's from elsewhere (a note, atcr-hold identity log), name it by --trust; "+
			"atcr-hold backup list shows other sets, which --at names", err)
	case errors.Is(err, backup.ErrUnsigned):
		return fmt.Errorf("%w\n--unsigned takes it", err)
	case errors.Is(err, backup.ErrOld):
		return fmt.Errorf("%w\n--older takes it", err)
	case errors.Is(err, backup.ErrSeq) && !f.Ahead:
		return fmt.Errorf("%w\n--ahead takes it, if the hold's clock was wrong once", err)
	}
	return err
}

// showClaims prints whose hold a set would make.
func showClaims(w io.Writer, c *backup.Claims) {
	m := c.Manifest
	signed := "signed by " + m.SigningKey
	if !m.Signed() {
		signed = "NOT SIGNED; its records are signed by " + m.SigningKey
	}
	captain := c.Captain
	if captain == "" {
		captain = "none"
	}
	if c.OtherCaptains > 0 {
		captain += fmt.Sprintf(" (records of captains that a hold does not read: %d)", c.OtherCaptains)
	}
	fmt.Fprintf(w, "Set %s, made %s (%s)\n  DID      %s\n  key      %s\n  captain  %s\n  crew     %d\n", m.Name,
		m.Created.UTC().Format(time.RFC3339), ago(c.Age), m.DID, signed, captain, c.Members)
	for _, one := range c.Crew {
		fmt.Fprintf(w, "    %s  %s\n", one.DID, strings.Join(one.Permissions, " "))
	}
	if rest := c.Members - int64(len(c.Crew)); rest > 0 {
		fmt.Fprintf(w, "    and %d more, with the same rights as the last or fewer\n", rest)
	}
}

// ago is an age in the largest units that matter.
func ago(d time.Duration) string {
	day := 24 * time.Hour
	switch {
	case d < 0:
		return "ahead of this machine's clock"
	case d >= 2*day:
		return fmt.Sprintf("%d days ago", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours ago", d/time.Hour)
	}
	return d.Round(time.Second).String() + " ago"
}

// confirm asks whether to restore into a folder what nothing vouches for.
func confirm(std *cli.IO, into string) func(context.Context, *backup.Claims) error {
	return func(_ context.Context, c *backup.Claims) error {
		fmt.Fprintf(std.Err, "%v.\nCompare DID and key with what you noted, captain and crew with whom you know: who can write to the "+
			"backups can put a set there that makes them the hold.\n", c.Unproven)
		if errors.Is(c.Unproven, backup.ErrUnsigned) {
			return ask(std, into, "--yes takes what is shown")
		}
		return ask(std, into, "name the hold's signing key by --trust or backup.trust, or take what is shown by --yes")
	}
}

// ask asks a question that only yes answers.
func ask(std *cli.IO, into, otherwise string) error {
	fmt.Fprintf(std.Err, "Restore into %s? [y/N] ", into)
	answer, err := FirstLine(std.In)
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"y", "yes"}, strings.ToLower(answer)) {
		return errors.New("nothing was restored: " + otherwise)
	}
	return nil
}
