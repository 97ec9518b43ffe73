package backup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"filippo.io/age"
	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/datadir"
	"github.com/atcr-dev/atcr/identity"
	identitybackup "github.com/atcr-dev/atcr/identity/backup"
	"github.com/atcr-dev/atcr/internal/crashpoint"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/storage"
)

// RestoreOptions tune [Restore].
type RestoreOptions struct {
	// Keys decrypt the identity. Required when the set holds one.
	Keys []age.Identity
	// Trust says which sets are taken.
	Trust Trust
	// OwnFolder says that who restores has named the data folder, and not the set, whose configuration ([ReadConfig]) names any: then a
	// set without the identity may also be signed by the key of the identity that is in that folder.
	OwnFolder bool
	// Show is told what is to be restored, before anything of it is written; nil: nobody.
	Show func(*Claims)
	// Confirm is asked, after Show, about a set that nothing vouches for, in a dry run, too: Claims.Unproven says why. An error ends the
	// restore, and nothing was written. nil refuses such sets.
	Confirm func(context.Context, *Claims) error
	// NoLayers leaves the set's layers where they are: the hold's storage was not lost.
	NoLayers bool
	// DryRun checks all that would be used, and changes nothing.
	DryRun bool
	// Progress may be nil.
	Progress Progress
}

// Restored says what a restore did, or would do.
type Restored struct {
	Manifest *Manifest
	Commit   repo.Commit // made by the restore, zero in a dry run
	Layers   int64       // copied, or to be copied
	Present  int64       // were in the hold's storage already
	// Missing are layers that records name and that neither the set nor the storage has; First are the first hundred.
	Missing int64
	First   []digest.Digest
}

// Restore brings a hold back from a set, the newest one for an empty name, into the empty data folder of cfg and its database and
// storage. All of the set is checked before anything is written, each layer as it is copied. A restore that was broken off is
// called again: the folder is no hold until it succeeded (datadir.ErrRestoreInProgress), and an empty name then means the set
// that was begun.
//
// A set counts when [Trust] vouches for it, or when Confirm says so: else it could bring somebody else's keys and crew.
//
// Errors: [ErrNoSet]; [ErrDamaged], naming the file; [ErrFormat]; [ErrUntrusted], [ErrUnsigned], [ErrOld] and [ErrSeq] as Trust says;
// [ErrForeign] when the configuration names another DID; [ErrNoIdentity]; datadir.ErrNotEmpty; datadir.ErrRestoreInProgress;
// datadir.ErrLocked with the pid of the server that runs there;
// identity/backup's ErrDecrypt.
func Restore(ctx context.Context, t Target, name string, cfg datadir.Config, o RestoreOptions) (*Restored, error) {
	r := &restoring{RestoreOptions: o, t: t, cfg: cfg}
	err := r.run(ctx, name)
	if err = errors.Join(err, r.close()); err != nil {
		return nil, fmt.Errorf("restore from %s: %w", t, err)
	}
	return &r.out, nil
}

type restoring struct {
	RestoreOptions
	t   Target
	cfg datadir.Config
	m   *Manifest
	out Restored

	unproven error    // why nothing vouches for the set
	car      *setRepo // the set's repository, once it is here

	to      *datadir.Restore // nil in a dry run
	have    datadir.LayerReader
	copies  []digest.Digest // to be copied, in order
	closers []func() error
}

func (r *restoring) close() error {
	var err error
	for i := len(r.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, r.closers[i]())
	}
	return err
}

func (r *restoring) run(ctx context.Context, name string) error {
	begun, err := datadir.RestoreInProgress(r.cfg.Dir)
	if err != nil {
		return err
	}
	name = cmp.Or(name, begun)
	if r.m, err = Find(ctx, r.t, name); err != nil {
		return err
	}
	r.out.Manifest = r.m
	if want, err := identity.NormalizeDID(r.cfg.Identity.DID); err == nil && want != r.m.DID {
		return fmt.Errorf("%w: %s is of %s, the configured DID is %s", ErrForeign, r.m.Name, r.m.DID, want)
	}
	if err := r.ownKey(); err != nil {
		return err
	}
	if r.unproven, err = r.Trust.check(ctx, r.t, r.m, begun != "" && name == begun); err != nil {
		return err
	}
	if r.unproven != nil && r.Confirm == nil {
		return r.unproven
	}
	if r.m.HasIdentity() && len(r.Keys) == 0 {
		return fmt.Errorf("%w: give the key or the passphrase that %s was encrypted for", ErrNoIdentity, r.m.path(identityFile))
	}
	who, err := readIdentity(ctx, r.t, r.m, r.Keys)
	if err != nil {
		return err
	}
	if r.unproven != nil {
		if err := datadir.CheckRestore(r.cfg, r.m.DID, r.m.Name); err != nil { // before somebody is asked
			return err
		}
		c, err := r.open(ctx, "") // nothing is in the data folder yet
		if err != nil {
			return err
		}
		if err := r.Confirm(ctx, c); err != nil {
			return err
		}
	}
	if err := r.begin(); err != nil {
		return err
	}
	dir := ""
	if !r.DryRun {
		work, lock, err := takeWork(r.cfg.Dir)
		if err != nil {
			return err
		}
		r.closers = append(r.closers, lock.Close)
		dir = work
		_ = crashpoint.Reach(ctx, crashpoint.RestoreBegun)
	}
	return r.parts(ctx, who, dir)
}

// ownKey looks for the identity that somebody put into the data folder, for a set that brings none, and trusts it where the set did not
// choose the folder.
func (r *restoring) ownKey() error {
	if r.m.HasIdentity() {
		return nil
	}
	who := r.cfg.Identity
	who.Dir = cmp.Or(who.Dir, r.cfg.Dir)
	id, err := identity.Load(who)
	if err != nil || id.DID != r.m.DID {
		return fmt.Errorf("%w: import the identity of %s first (atcr-hold identity import)", ErrNoIdentity, r.m.DID)
	}
	if !r.OwnFolder {
		return nil
	}
	pub, err := id.Key.PublicKey()
	if err != nil {
		return err
	}
	r.Trust.Keys = append(slices.Clone(r.Trust.Keys), pub.DIDKey())
	return nil
}

// open brings the set's repository into dir, and shows what it says.
func (r *restoring) open(ctx context.Context, dir string) (c *Claims, err error) {
	if r.car, err = openRepo(ctx, r.t, r.m, dir); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, r.car.close)
	c, err = readClaims(ctx, r.car.CAR, r.m, &r.Trust, r.unproven)
	if err == nil && r.Show != nil {
		r.Show(c)
	}
	return c, err
}

// begin takes the data folder.
func (r *restoring) begin() error {
	if r.DryRun {
		store, err := r.cfg.Layers()
		r.have = store
		return errors.Join(err, datadir.CheckRestore(r.cfg, r.m.DID, r.m.Name))
	}
	to, err := datadir.BeginRestore(r.cfg, r.m.DID, r.m.Name)
	if err != nil {
		return err
	}
	r.to, r.have = to, to.Storage()
	r.closers = append(r.closers, to.Close)
	return nil
}

// parts checks everything, then writes it.
func (r *restoring) parts(ctx context.Context, who []byte, dir string) (err error) {
	if r.car == nil {
		if _, err := r.open(ctx, dir); err != nil {
			return err
		}
	}
	notes, err := fetchSpool(ctx, r.t, r.m, notesFile, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, notes.drop()) }()
	if err := r.layers(ctx, dir); err != nil {
		return err
	}
	_ = crashpoint.Reach(ctx, crashpoint.LayersRestored)
	if err := r.missing(ctx); err != nil || r.DryRun {
		return err
	}
	if who != nil {
		if _, err := identitybackup.Import(bytes.NewReader(who), r.to.Identity(), r.Keys...); err != nil {
			return err
		}
	}
	_ = crashpoint.Reach(ctx, crashpoint.IdentityRestored)
	tree, err := r.car.file.again()
	if err != nil {
		return err
	}
	if r.out.Commit, err = r.to.Repo(ctx, repo.Source{Reader: tree, Name: r.m.path(repoFile), TempDir: dir}, r.m.Seq); err != nil {
		return err
	}
	_ = crashpoint.Reach(ctx, crashpoint.RepositoryRestored)
	in, err := notes.again()
	if err != nil {
		return err
	}
	if err := r.to.Metadata(ctx, in); err != nil {
		return err
	}
	return r.to.Done()
}

// layers copies what the storage has not.
func (r *restoring) layers(ctx context.Context, dir string) (err error) {
	if r.m.Layers == nil || r.NoLayers {
		return nil
	}
	list, err := fetchSpool(ctx, r.t, r.m, layersFile, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, list.drop()) }()
	in, err := list.again()
	if err != nil {
		return err
	}
	c := newCopier(ctx)
	var m *meter
	if !r.DryRun {
		m = newMeter(r.Progress, r.m.Layers.Bytes)
	}
	for l, err := range readLayers(in) {
		if err != nil {
			c.fail(err)
			break
		}
		info, err := r.have.Stat(c.ctx, l.Digest)
		switch {
		case err == nil && info.Size == l.Size:
			r.out.Present++
			m.add(l.Size)
			continue
		case err != nil && !errors.Is(err, storage.ErrNotFound):
			c.fail(err)
		}
		r.out.Layers++
		r.copies = append(r.copies, l.Digest)
		if !r.DryRun {
			c.run(func(ctx context.Context) error { return r.layer(ctx, l, m) })
		}
		if c.ctx.Err() != nil {
			break
		}
	}
	return errors.Join(c.wait(), ctx.Err())
}

// layer copies one, and the storage hashes it.
func (r *restoring) layer(ctx context.Context, l layer, m *meter) (err error) {
	up, err := r.to.Storage().Create(ctx, storage.Hint{Digest: l.Digest, Size: l.Size})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, up.Cancel(context.WithoutCancel(ctx)))
		}
	}()
	if _, err := copyFile(ctx, r.t, layerName(l.Digest), m.through(up), l.Size); err != nil {
		return err
	}
	if _, err = up.Commit(ctx, l.Digest); errors.Is(err, storage.ErrDigestMismatch) {
		err = fmt.Errorf("%w: %s of %s has changed", ErrDamaged, layerName(l.Digest), r.t)
	}
	return err
}

// missing counts the layers that the hold will not have.
func (r *restoring) missing(ctx context.Context) error {
	named, err := layersNamed(ctx, r.car.CAR)
	if err != nil {
		return err
	}
	for _, d := range named {
		_, err := r.have.Stat(ctx, d)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if _, copied := slices.BinarySearch(r.copies, d); err != nil && !copied {
			if r.out.Missing++; len(r.out.First) < 100 {
				r.out.First = append(r.out.First, d)
			}
		}
	}
	return nil
}
