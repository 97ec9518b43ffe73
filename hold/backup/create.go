package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"filippo.io/age"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/identity"
	identitybackup "github.com/atcr-dev/atcr/identity/backup"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/internal/durable"
	"github.com/atcr-dev/atcr/repo"
)

// workFolder, in the hold's data folder, holds the lock of its backups and what is on its way to the target.
const workFolder = "backup"

// lostTries bounds how often the repository is read again because layers were removed while they were copied. What was copied stays
// at the target, so that another try misses only what was pushed and deleted during it.
const lostTries = 100

// Options say what is in a set. Recipients or NoIdentity is required.
type Options struct {
	// Recipients are who may read the identity in it: age.ParseX25519Recipient, age.NewScryptRecipient, …
	Recipients []age.Recipient
	// NoIdentity leaves it out.
	NoIdentity bool
	// Layers takes the layers that records name along.
	Layers bool
	// Config is the configuration's text, without secrets; empty: none. It is for people: a restore does not use it.
	Config []byte
	// Keep is how many sets [Options.Job] leaves at the target; 0 keeps all.
	Keep int
	// Version of the program, for the manifest, which has its first 256 bytes without control characters.
	Version string
	// Trusted are the keys that a restore will take sets by, as [Trust] has them: Create logs an error when the key that signs is not
	// among them. Layers that the newest set by one of them lists are not read again. Empty: not looked at.
	Trusted []string
	// Progress may be nil.
	Progress Progress
	// Clock returns the time; nil is time.Now.
	Clock func() time.Time
	// Log hears of missing layers and of what was removed; nil is slog.Default().
	Log *slog.Logger
}

func (o *Options) fill() error {
	if len(o.Recipients) == 0 && !o.NoIdentity {
		return fmt.Errorf("%w: name a recipient (age1…) who may read it, or say that it is kept elsewhere", ErrNoIdentity)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return nil
}

// Job is Create and then [Prune], for Run of a hold.BackupSchedule. open is called for each backup, so that a target that is not
// there at the start, or goes away, harms nothing.
func (o Options) Job(open func(context.Context) (Target, error)) func(context.Context, *datadir.Contents) error {
	return func(ctx context.Context, p *datadir.Contents) error {
		t, err := open(ctx)
		if err != nil {
			return err
		}
		o := o
		if err := o.fill(); err != nil {
			return err
		}
		began := time.Now()
		m, err := Create(ctx, t, p, o)
		if err != nil {
			return err
		}
		o.Log.Info("backup made", "set", m.Name, "to", t.String(), "records", m.Records, "seconds", time.Since(began).Seconds())
		if o.Keep <= 0 {
			return nil
		}
		gone, err := Prune(ctx, t, p, o.Keep)
		if len(gone) > 0 {
			o.Log.Info("old backups removed", "sets", gone)
		}
		return err
	}
}

// Create makes one set, signed by the hold's key, and returns its manifest. Before it removes what backups that were broken off left. The
// repository is verified before it counts. Errors: [ErrNoIdentity], [ErrForeign], datadir.ErrLocked while another process makes one, those
// of the target and of the hold's contents. After an error the target has no new set; layers that arrived are used by the next.
func Create(ctx context.Context, t Target, p *datadir.Contents, o Options) (_ *Manifest, err error) {
	if err := o.fill(); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	c := &creating{Options: o, t: t, p: p}
	defer func() {
		if err = errors.Join(err, c.close()); err != nil {
			err = fmt.Errorf("backup to %s: %w", t, err)
		}
	}()
	for _, step := range []func(context.Context) error{c.prepare, c.read, c.write} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return &c.m, nil
}

type creating struct {
	Options
	t Target
	p *datadir.Contents
	m Manifest

	last      *Manifest // of the hold's newest set with layers, by any of its keys; nil: none
	work      string
	key       atcrypto.PublicKey // that signed what was read
	lock      *durable.Lock
	car       *spool
	layerList *spool
}

func (c *creating) close() error {
	var errs []error
	for _, s := range []*spool{c.car, c.layerList} {
		if s != nil {
			errs = append(errs, s.drop())
		}
	}
	if c.lock != nil {
		errs = append(errs, c.lock.Close())
	}
	return errors.Join(errs...)
}

// takeWork locks the work folder and empties it.
func takeWork(dir string) (string, *durable.Lock, error) {
	work := filepath.Join(dir, workFolder)
	if err := durable.MkdirAll(work, 0o700); err != nil {
		return "", nil, err
	}
	lock, err := durable.LockDir(work)
	if err != nil {
		return "", nil, err
	}
	entries, err := os.ReadDir(work)
	for _, e := range entries {
		if e.Name() != durable.LockName && err == nil {
			err = os.RemoveAll(filepath.Join(work, e.Name()))
		}
	}
	if err != nil {
		return "", nil, errors.Join(err, lock.Close())
	}
	return work, lock, nil
}

// prepare takes the target, which must be ours, and cleans up.
func (c *creating) prepare(ctx context.Context) (err error) {
	if c.work, c.lock, err = takeWork(c.p.Dir); err != nil {
		return err
	}
	sets, err := List(ctx, c.t)
	if err != nil {
		return err
	}
	if err := ours(c.t, sets, c.p.Repo.DID()); err != nil {
		return err
	}
	if err := c.t.Clean(ctx); err != nil {
		return err
	}
	keys := c.ownKeys()
	for _, s := range sets {
		if c.last == nil && s.signedBy(keys...) && s.Manifest.Layers != nil {
			c.last = s.Manifest
		}
		if s.Manifest == nil && s.Err == nil {
			c.Log.Warn("a backup that was broken off is removed", "set", s.Name)
			if err := remove(ctx, c.t, s); err != nil {
				return err
			}
		}
	}
	c.m.Created = c.Clock().UTC().Truncate(time.Microsecond)
	c.m.Name = c.m.Created.Format(nameLayout)
	return c.rename(sets)
}

// ownKeys are the keys whose sets are taken for the hold's: the one of now, those that signed here before, and the trusted ones.
func (c *creating) ownKeys() []string {
	keys := append([]string{c.p.Repo.PublicKey().DIDKey()}, c.Trusted...)
	before, err := identity.SigningKeys(c.p.Identity)
	if err != nil {
		c.Log.Warn("the keys that signed before are not known: layers that only sets by them list are read", "error", err)
	}
	return append(keys, before...)
}

// rename gives the set the highest name when the clock went back. Names far ahead that are not our own are others' doing: they don't count.
func (c *creating) rename(sets []Set) error {
	key := c.p.Repo.PublicKey().DIDKey()
	ahead := c.m.Created.Add(aheadMax).Format(nameLayout)
	for _, s := range sets {
		if s.Name > ahead && !s.signedBy(key) {
			c.Log.Warn("a set at the target is of a time to come, and is not this hold's", "set", s.Name, "target", c.t.String())
			continue
		}
		if c.m.Name > s.Name {
			return nil
		}
		last, err := time.Parse(nameLayout, s.Name)
		if err != nil {
			return err
		}
		c.m.Name = last.Add(time.Microsecond).Format(nameLayout)
		return nil
	}
	return nil
}

// exported is told how far the repository is.
func (c *creating) exported(records, _ int64) {
	if c.Progress != nil {
		c.Progress("records", records, 0)
	}
}

// ours refuses another hold's target.
func ours(t Target, sets []Set, did string) error {
	for _, s := range sets {
		if s.Manifest != nil && s.Manifest.DID.String() != did {
			return fmt.Errorf("%w: %s has set %s of %s, this hold is %s; choose another folder or prefix", ErrForeign, t, s.Name,
				s.Manifest.DID, did)
		}
	}
	return nil
}

// read reads the repository, verifies it, and brings its layers to the target, until both agree.
func (c *creating) read(ctx context.Context) error {
	before := map[digest.Digest]bool{}
	for try := 1; ; try++ {
		named, err := c.readRepo(ctx)
		if err != nil || !c.Layers {
			return err
		}
		if c.layerList, err = newSpool(c.work); err != nil {
			return err
		}
		sum, lost, err := c.copyLayers(ctx, named)
		if err != nil {
			return err
		}
		isNew := func(d digest.Digest) bool { return !before[d] }
		if try < lostTries && slices.ContainsFunc(lost, isNew) {
			// Removed while we copied, or lost? The hold has lost what the records of now still name.
			for _, d := range lost {
				before[d] = true
			}
			if err := errors.Join(c.car.drop(), c.layerList.drop()); err != nil {
				return err
			}
			c.car, c.layerList = nil, nil
			continue
		}
		if len(lost) > 0 {
			c.Log.Error("the hold has lost layers that its records name; the backup is made without them", "count", len(lost), "first",
				lost[0])
		}
		c.m.Layers = &sum
		_ = crashpoint.Reach(ctx, crashpoint.LayersCopied)
		return nil
	}
}

// copyLayers trusts what our last set lists: it was hashed when it was copied. Without one, what is at the target is read.
func (c *creating) copyLayers(ctx context.Context, named []digest.Digest) (sum Layers, lost []digest.Digest, err error) {
	var known *layerCursor
	if c.last != nil {
		if known, err = openLayers(ctx, c.t, c.last, c.work); err != nil && !errors.Is(err, ErrDamaged) {
			return sum, nil, err
		} else if err != nil { // it was changed since: no layer is taken on trust
			c.Log.Error("the list of layers of an older set is damaged: what is at the target is read", "set", c.last.Name, "error", err)
		}
	}
	defer func() { err = errors.Join(err, known.close()) }()
	return copyLayers(ctx, c.t, c.p.Layers, named, known, c.layerList, c.Progress)
}

// readRepo writes the CAR into the work folder and returns which layers it names.
func (c *creating) readRepo(ctx context.Context) (named []digest.Digest, err error) {
	if c.car, err = newSpool(c.work); err != nil {
		return nil, err
	}
	before := c.p.Repo.PublicKey()
	if err := repo.ExportCAR(ctx, c.p.Repo, c.car, &repo.ExportOptions{Blobs: true, Progress: c.exported}); err != nil {
		return nil, err
	}
	if c.m.Seq, err = c.p.Repo.Seq(ctx); err != nil {
		return nil, err
	}
	r, err := c.car.again()
	if err != nil {
		return nil, err
	}
	_ = crashpoint.Reach(ctx, crashpoint.RepositoryExported)
	c.key = c.p.Repo.PublicKey()
	car, err := repo.OpenCAR(ctx, repo.Source{Reader: r, Name: repoFile, DID: c.p.Repo.DID(), Key: c.key, Strict: true, AnyCase: true,
		TempDir: c.work})
	if err != nil && !before.Equal(c.key) {
		return nil, fmt.Errorf("the repository as read is signed by a key that was changed meanwhile; make the backup again: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("the repository as read is not whole: %w", err)
	}
	defer func() { err = errors.Join(err, car.Close()) }()
	c.m.Rev, c.m.Commit, c.m.Records = car.Info.Rev, car.Info.Commit.String(), car.Info.Records
	_ = crashpoint.Reach(ctx, crashpoint.RepositoryRead)
	if !c.Layers {
		return nil, nil
	}
	return layersNamed(ctx, car)
}

// sameIdentity makes sure that the identity on disk is the one that signed what was read: a restore verifies the one by the other.
func (c *creating) sameIdentity() (*identity.Identity, error) {
	id, err := identity.Load(c.p.Identity)
	if err != nil {
		return nil, err
	}
	pub, err := id.Key.PublicKey()
	if err != nil {
		return nil, err
	}
	if id.DID.String() != c.p.Repo.DID() || !pub.Equal(c.key) {
		return nil, errors.New("the identity on disk is not the one that signed the repository as it was read: " +
			"its key was changed meanwhile; make the backup again")
	}
	return id, nil
}

// write brings the files of the set to the target, the manifest last.
func (c *creating) write(ctx context.Context) error {
	id, err := c.sameIdentity()
	if err != nil {
		return err
	}
	c.m.DID, c.m.SigningKey, c.m.Version = id.DID, c.key.DIDKey(), plain(c.Version)
	c.warn()
	if err := c.car.put(ctx, c.t, &c.m, repoFile); err != nil {
		return err
	}
	if !c.NoIdentity {
		var file bytes.Buffer
		if err := identitybackup.Export(&file, c.p.Identity, c.Recipients...); err != nil {
			return err
		}
		if _, err := c.sameIdentity(); err != nil { // what was just exported
			return err
		}
		if err := putBytes(ctx, c.t, &c.m, identityFile, file.Bytes()); err != nil {
			return err
		}
	}
	if err := c.writeNotes(ctx); err != nil {
		return err
	}
	if c.layerList != nil {
		if err := c.layerList.put(ctx, c.t, &c.m, layersFile); err != nil {
			return err
		}
	}
	if len(c.Config) > 0 {
		if err := putBytes(ctx, c.t, &c.m, configFile, c.Config); err != nil {
			return err
		}
	}
	text, signature, err := c.m.encode(id.Key)
	if err != nil {
		return err
	}
	if err := c.t.Put(ctx, c.m.path(signatureFile), bytes.NewReader(signature), int64(len(signature))); err != nil {
		return err
	}
	_ = crashpoint.Reach(ctx, crashpoint.FilesWritten)
	if err := c.t.Put(ctx, c.m.path(manifestFile), bytes.NewReader(text), int64(len(text))); err != nil {
		return err
	}
	_ = crashpoint.Reach(ctx, crashpoint.SetWhole)
	return nil
}

// warn tells of what would keep the set from being restored as a matter of course.
func (c *creating) warn() {
	if len(c.Trusted) > 0 && !slices.Contains(c.Trusted, c.m.SigningKey) {
		c.Log.Error("the key that signs the backups is not among the trusted ones: a restore by that list refuses them; add it",
			"key", c.m.SigningKey)
	}
	if err := c.m.checkSeq(); err != nil {
		c.Log.Error("the hold's event numbers are ahead of the clock, as if it had been wrong once: a restore asks for that to be allowed",
			"error", err)
	}
}

func (c *creating) writeNotes(ctx context.Context) (err error) {
	s, err := newSpool(c.work)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.drop()) }()
	if err := c.p.WriteMetadata(ctx, s); err != nil {
		return err
	}
	return s.put(ctx, c.t, &c.m, notesFile)
}
