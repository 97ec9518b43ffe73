package datadir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/hold/internal/disk"
	"github.com/atcr-dev/atcr/hold/internal/ledger"
	"github.com/atcr-dev/atcr/hold/internal/schema"
	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/storage"
)

// Errors of a restore.
var (
	// ErrNotEmpty: the data folder, or the database, holds a hold already.
	ErrNotEmpty = errors.New("a restore needs an empty data folder")
	// ErrRestoreInProgress: a restore into this folder was broken off. It is called again, or the folder is emptied.
	ErrRestoreInProgress = disk.ErrRestoreInProgress
)

// seqJump is added to event numbers at a restore, in microseconds of the clock, which is what they count: followers may have
// seen numbers after the backup, of a clock that went ahead of ours.
const seqJump = int64(time.Hour / time.Microsecond)

// seqAfter is a number above all that were seen.
func seqAfter(seen int64, now time.Time) (int64, error) {
	at := max(seen, now.UnixMicro())
	if seen < 0 || at > repo.MaxSeq-seqJump {
		return 0, fmt.Errorf("%w: the newest one before was %d", repo.ErrSeq, seen)
	}
	return at + seqJump, nil
}

// RestoreInProgress returns what a restore into dir that was broken off was from, in its caller's words; empty: there was none.
func RestoreInProgress(dir string) (from string, err error) {
	m, err := disk.ReadRestoreMark(dir)
	if err != nil || m == nil || !m.Done.IsZero() {
		return "", err
	}
	return m.From, nil
}

// Restore fills an empty data folder: the identity (identity/backup's Import by Identity), Repo, Metadata, and blobs into Storage, in
// any order but the identity before the repository; Done in the end. Until then the folder is no hold: hold.New refuses it with
// [ErrRestoreInProgress]. Each step may be repeated, so a restore that was broken off is begun again.
type Restore struct {
	cfg     Config
	from    string
	storage storage.Store
	closers []func() error
}

// BeginRestore takes the data folder of cfg, which must be empty but for blobs and an identity that is did's; from names what is
// restored. Close it. Errors: [ErrLocked] with the pid of the server that runs there; [ErrNotEmpty]; [ErrRestoreInProgress] when a
// restore from something else was broken off here.
func BeginRestore(cfg Config, did syntax.DID, from string) (_ *Restore, err error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	r := &Restore{cfg: cfg, from: from}
	if err := durable.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := durable.LockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	r.closers = append(r.closers, lock.Close)
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore into %s: %w", cfg.Dir, errors.Join(err, r.Close()))
		}
	}()
	if err := CheckRestore(cfg, did, from); err != nil {
		return nil, err
	}
	if err := durable.RemoveTemp(cfg.Dir); err != nil {
		return nil, err
	}
	if err := (&disk.RestoreMark{From: from}).Write(cfg.Dir); err != nil {
		return nil, err
	}
	if r.storage = cfg.Storage; r.storage == nil {
		store, err := cfg.places().OpenLayers()
		if err != nil {
			return nil, err
		}
		r.storage = store
		r.closers = append(r.closers, store.Close)
	}
	return r, nil
}

// CheckRestore refuses what [BeginRestore] would, and changes nothing. It does not look whether a server runs: a folder in
// which one did is not empty.
func CheckRestore(cfg Config, did syntax.DID, from string) error {
	if err := cfg.fill(); err != nil {
		return err
	}
	mark, err := disk.ReadRestoreMark(cfg.Dir)
	if err != nil {
		return err
	}
	if mark != nil && mark.Done.IsZero() {
		if mark.From != from {
			return fmt.Errorf("%w: it was from %s, not from %s; name that one, or empty the folder", ErrRestoreInProgress, mark.From, from)
		}
		return nil
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	allowed := []string{durable.LockName, "lost+found", "blobs", "backup", filepath.Base(cfg.places().LayersPath())}
	stored, err := os.ReadFile(filepath.Join(cfg.Dir, "did.txt"))
	if err == nil {
		if have, err := identity.NormalizeDID(string(stored)); err != nil || have != did {
			return fmt.Errorf("%w: %s says %s, the backup is of %s", ErrNotEmpty, filepath.Join(cfg.Dir, "did.txt"),
				strings.TrimSpace(string(stored)), did)
		}
		allowed = append(allowed, "did.txt", "keys", "genesis.json", "plc-log.json")
	}
	for _, e := range entries {
		if !slices.Contains(allowed, e.Name()) && !strings.HasPrefix(e.Name(), durable.TempPrefix) {
			return fmt.Errorf("%w: %s holds %s; name another Dir, or move what is there away", ErrNotEmpty, cfg.Dir, e.Name())
		}
	}
	return nil
}

// Identity is what the identity is imported by.
func (r *Restore) Identity() identity.Config { return r.cfg.Identity }

// Storage is where blobs are restored to.
func (r *Restore) Storage() storage.Store { return r.storage }

// Repo restores the repository as the CAR has it, into the folder or the configured database. Then it signs one empty commit, which
// is announced by a #sync event with a number above seq, the newest one that the backup knew of, and above the clock, by an hour:
// so followers, who have seen more than the backup has, take what is here now; an #account event says that it is active. Errors:
// those of repo.MirrorCAR; [ErrNotEmpty] when there is another repository; repo.ErrSeq for a number
// that leaves no room for more.
func (r *Restore) Repo(ctx context.Context, src repo.Source, seq int64) (_ repo.Commit, err error) {
	after, err := seqAfter(seq, r.cfg.Clock())
	if err != nil {
		return repo.Commit{}, err
	}
	id, err := identity.Load(r.cfg.Identity)
	if err != nil {
		return repo.Commit{}, err
	}
	src.DID, src.AnyCase = id.DID.String(), true // as it was
	if src.Key, err = id.Key.PublicKey(); err != nil {
		return repo.Commit{}, err
	}
	store, closeStore, err := r.cfg.places().OpenStore(ctx, 0)
	if err != nil {
		return repo.Commit{}, err
	}
	defer func() { err = errors.Join(err, closeStore()) }()
	if err := mirrorOnce(ctx, store, src, r.cfg.Clock); err != nil {
		return repo.Commit{}, err
	}
	to, err := repo.Open(ctx, store, repo.Options{DID: src.DID, Key: id.Key, Clock: r.cfg.Clock, Log: r.cfg.Log})
	if err != nil {
		return repo.Commit{}, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	c, err := to.Resync(ctx, after)
	if err == nil {
		err = to.AnnounceAccount(ctx, "")
	}
	return c, err
}

// mirrorOnce restores into an empty store; one that has the same records already was restored by an earlier try.
func mirrorOnce(ctx context.Context, store repo.Store, src repo.Source, clock func() time.Time) error {
	head, err := store.Read(ctx).Head()
	if errors.Is(err, repo.ErrNotFound) {
		_, err = repo.MirrorCAR(ctx, store, src, clock)
		return err
	}
	if err != nil {
		return err
	}
	info, err := repo.VerifyCAR(ctx, src)
	if err != nil {
		return err
	}
	if head.Root != info.Data {
		return fmt.Errorf("%w: the database holds a repository, at revision %s; name an empty one", ErrNotEmpty, head.Rev)
	}
	return nil
}

// Metadata restores what [Contents.WriteMetadata] wrote.
func (r *Restore) Metadata(ctx context.Context, from io.Reader) (err error) {
	db, done, err := r.cfg.places().OpenTables(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := schema.Migrate(ctx, db); err != nil {
		return err
	}
	return ledger.ReadManifests(ctx, db, from)
}

// Done makes the folder a hold.
func (r *Restore) Done() error {
	return (&disk.RestoreMark{From: r.from, Done: r.cfg.Clock().UTC()}).Write(r.cfg.Dir)
}

// Close releases the folder, after Done or in place of it.
func (r *Restore) Close() error {
	var err error
	for i := len(r.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, r.closers[i]())
	}
	r.closers = nil
	return err
}
