package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/age"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/opencontainers/go-digest"

	identitybackup "github.com/atcr-dev/atcr/identity/backup"
	"github.com/atcr-dev/atcr/repo"
)

// VerifyOptions tune [Verify].
type VerifyOptions struct {
	// Trust says whose sets are good, and how old they may be. A set that it does not vouch for is refused; one that is not signed is taken
	// with Trust.Unsigned.
	Trust Trust
	// Keys decrypt the identity, which then must be the repository's; without them only its bytes are checked.
	Keys []age.Identity
	// Quick does not read the layers, only looks whether they are there in the right size.
	Quick bool
	// Progress may be nil.
	Progress Progress
	// TempDir is for the repository; empty is the system's.
	TempDir string
}

// Report says what [Verify] found good.
type Report struct {
	Manifest  *Manifest
	Identity  bool     // it was decrypted
	LayersBad []string // layers that are gone or have changed, up to 100
}

// Verify checks a set, the newest one for an empty name, without restoring it: that the hold signed it, every file against the manifest,
// the repository's tree and signature, that every layer its records name is listed, and every listed layer's digest. Errors: [ErrNoSet];
// [ErrDamaged], naming the file; [ErrFormat]; [ErrUntrusted], [ErrUnsigned], [ErrOld] and [ErrSeq] as Trust says; identity/backup's
// ErrDecrypt.
func Verify(ctx context.Context, t Target, name string, o VerifyOptions) (*Report, error) {
	m, err := Find(ctx, t, name)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	unproven, err := o.Trust.check(ctx, t, m, false)
	if err == nil && m.Signed() {
		err = unproven
	}
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	o.TempDir, err = os.MkdirTemp(o.TempDir, "verify-*")
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	rep := &Report{Manifest: m}
	err = rep.check(ctx, t, o)
	if err = errors.Join(err, os.RemoveAll(o.TempDir)); err != nil {
		return rep, fmt.Errorf("verify: %w", err)
	}
	return rep, nil
}

func (rep *Report) check(ctx context.Context, t Target, o VerifyOptions) (err error) {
	m := rep.Manifest
	for _, f := range m.Files {
		if f.Name == notesFile || f.Name == configFile {
			if err := fetch(ctx, t, m, f.Name, io.Discard); err != nil {
				return err
			}
		}
	}
	if _, err := readIdentity(ctx, t, m, o.Keys); err != nil {
		return err
	}
	rep.Identity = m.HasIdentity() && len(o.Keys) > 0
	car, err := openRepo(ctx, t, m, o.TempDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, car.close()) }()
	if m.Layers == nil {
		return nil
	}
	named, err := layersNamed(ctx, car.CAR)
	if err != nil {
		return err
	}
	return rep.checkLayers(ctx, t, named, o)
}

// checkLayers looks at each layer of the list.
func (rep *Report) checkLayers(ctx context.Context, t Target, named []digest.Digest, o VerifyOptions) (err error) {
	m := rep.Manifest
	list, err := fetchSpool(ctx, t, m, layersFile, o.TempDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, list.drop()) }()
	r, err := list.again()
	if err != nil {
		return err
	}
	size, stop := atTarget(ctx, t)
	defer stop()
	sum, rest := Layers{}, named
	done := newMeter(o.Progress, m.Layers.Bytes)
	for l, err := range readLayers(r) {
		if err != nil {
			return err
		}
		for len(rest) > 0 && rest[0] < l.Digest {
			sum.Missing++
			rest = rest[1:]
		}
		if len(rest) > 0 && rest[0] == l.Digest {
			rest = rest[1:]
		}
		sum.Count++
		sum.Bytes += l.Size
		have, err := size(l.Digest)
		if err != nil {
			return err
		}
		good := have == l.Size
		if !good || o.Quick {
			done.add(l.Size)
		} else {
			if good, err = readLayer(ctx, t, l, done); err != nil {
				return err
			}
		}
		if !good && len(rep.LayersBad) < 100 {
			rep.LayersBad = append(rep.LayersBad, layerName(l.Digest))
		}
	}
	sum.Missing += int64(len(rest))
	if sum.Count != m.Layers.Count || sum.Bytes != m.Layers.Bytes || sum.Missing != m.Layers.Missing {
		return fmt.Errorf("%w: %s does not list what the records name", ErrDamaged, m.path(layersFile))
	}
	if len(rep.LayersBad) > 0 {
		return fmt.Errorf("%w: %s of %s is gone or has changed", ErrDamaged, rep.LayersBad[0], t)
	}
	return nil
}

func readLayer(ctx context.Context, t Target, l layer, done *meter) (good bool, err error) {
	v := l.Digest.Verifier()
	n, err := copyFile(ctx, t, layerName(l.Digest), done.through(v), l.Size)
	if errors.Is(err, ErrDamaged) {
		return false, nil
	}
	return n == l.Size && v.Verified(), err
}

// fetchSpool brings a file of the set here.
func fetchSpool(ctx context.Context, t Target, m *Manifest, name, dir string) (*spool, error) {
	s, err := newSpool(dir)
	if err != nil {
		return nil, err
	}
	if err := fetch(ctx, t, m, name, s); err != nil {
		return nil, errors.Join(err, s.drop())
	}
	return s, nil
}

// setRepo is a set's repository, on this machine and verified.
type setRepo struct {
	*repo.CAR
	file *spool
}

func (r *setRepo) close() error { return errors.Join(r.CAR.Close(), r.file.drop()) }

func openRepo(ctx context.Context, t Target, m *Manifest, dir string) (*setRepo, error) {
	key, err := atcrypto.ParsePublicDIDKey(m.SigningKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: signingKey: %w", ErrDamaged, m.path(manifestFile), err)
	}
	s, err := fetchSpool(ctx, t, m, repoFile, dir)
	if err != nil {
		return nil, err
	}
	r, err := s.again()
	var car *repo.CAR
	if err == nil {
		car, err = repo.OpenCAR(ctx, repo.Source{Reader: r, Name: m.path(repoFile), DID: m.DID.String(), Key: key,
			Strict: true, AnyCase: true, TempDir: dir})
	}
	if errors.Is(err, repo.ErrInvalidCAR) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err == nil && car.Info.Commit.String() != m.Commit {
		err = errors.Join(fmt.Errorf("%w: %s has another commit than the manifest says", ErrDamaged, m.path(repoFile)), car.Close())
	}
	if err != nil {
		return nil, errors.Join(err, s.drop())
	}
	return &setRepo{car, s}, nil
}

// readIdentity brings the encrypted identity here and, with keys, checks that it is the repository's. nil: the set has none.
func readIdentity(ctx context.Context, t Target, m *Manifest, keys []age.Identity) ([]byte, error) {
	if !m.HasIdentity() {
		return nil, nil
	}
	if f := m.file(identityFile); f.Size > 2*identitybackup.MaxFile {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrDamaged, m.path(identityFile), f.Size)
	}
	var b bytes.Buffer
	if err := fetch(ctx, t, m, identityFile, &b); err != nil || len(keys) == 0 {
		return b.Bytes(), err
	}
	did, key, err := identitybackup.Check(bytes.NewReader(b.Bytes()), keys...)
	if err != nil {
		return nil, err
	}
	if did != m.DID || key.DIDKey() != m.SigningKey {
		return nil, fmt.Errorf("%w: %s is of %s, the set is of %s, or the keys differ", ErrDamaged, m.path(identityFile), did, m.DID)
	}
	return b.Bytes(), nil
}
