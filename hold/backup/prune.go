package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/atcr-dev/atcr/hold/datadir"
)

// Prune removes whole sets that are older than the keep newest ones which the hold's key of now has signed, and layers that no set that is
// left names: sets that others brought to the target don't count, so that they push none of the hold's out. It returns the names of what it
// removed. First the newest set is read back; one that is damaged is named by the error, does not count, and then the newest one that
// is good stays whatever keep says. No layer is removed while the list of one set that is left is damaged. Files that no backup made
// are left alone. Errors: [ErrDamaged], [ErrForeign], datadir.ErrLocked, those of the target.
func Prune(ctx context.Context, t Target, p *datadir.Contents, keep int) (removed []string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("remove old backups from %s: %w", t, err)
		}
	}()
	if keep < 1 {
		return nil, errors.New("at least one must be kept")
	}
	work, lock, err := takeWork(p.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	sets, err := List(ctx, t)
	if err != nil {
		return nil, err
	}
	if err := ours(t, sets, p.Repo.DID()); err != nil {
		return nil, err
	}
	drop, damaged, err := surplus(ctx, t, sets, p.Repo.PublicKey().DIDKey(), keep)
	if err != nil {
		return nil, err
	}
	for _, s := range drop {
		if err := remove(ctx, t, s); err != nil {
			return removed, err
		}
		removed = append(removed, s.Name)
	}
	if len(removed) > 0 && damaged == nil {
		err = dropLayers(ctx, t, work)
	}
	return removed, errors.Join(damaged, err)
}

// surplus returns the sets to remove. damaged tells of newer sets that are not good.
func surplus(ctx context.Context, t Target, sets []Set, key string, keep int) (drop []Set, damaged, err error) {
	count := 0
	for _, s := range sets {
		if !s.Whole() {
			damaged = errors.Join(damaged, s.Err)
			continue
		}
		if count == keep {
			drop = append(drop, s)
			continue
		}
		if !s.signedBy(key) {
			continue
		}
		if count == 0 { // none that is good was met yet
			err := readBack(ctx, t, s.Manifest)
			if errors.Is(err, ErrDamaged) {
				damaged = errors.Join(damaged, err)
				continue
			}
			if err != nil {
				return nil, nil, err
			}
		}
		count++
	}
	return drop, damaged, nil
}

// readBack compares a set's files with its manifest.
func readBack(ctx context.Context, t Target, m *Manifest) error {
	for _, f := range m.Files {
		if err := fetch(ctx, t, m, f.Name, io.Discard); err != nil {
			return err
		}
	}
	return nil
}

// remove takes a set away, its manifest first: what is left of a crash is no set.
func remove(ctx context.Context, t Target, s Set) error {
	if s.Manifest != nil {
		if err := t.Delete(ctx, s.Manifest.path(manifestFile)); err != nil {
			return err
		}
	}
	for _, name := range s.files {
		if err := t.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// dropLayers removes the layers that no set names: the lists and the layers are read side by side, each once.
func dropLayers(ctx context.Context, t Target, dir string) (err error) {
	sets, err := List(ctx, t)
	if err != nil {
		return err
	}
	var lists []*layerCursor
	defer func() {
		for _, l := range lists {
			err = errors.Join(err, l.close())
		}
	}()
	for _, s := range sets {
		if s.Manifest == nil {
			return s.Err // what it names is not known: nothing is removed
		}
		if s.Manifest.Layers == nil {
			continue
		}
		l, err := openLayers(ctx, t, s.Manifest, dir)
		if err != nil {
			return err // the same
		}
		lists = append(lists, l)
	}
	for e, err := range t.List(ctx, layersFolder) {
		if err != nil {
			return err
		}
		d, ok := layerOf(e.Name)
		if !ok {
			continue
		}
		named := false
		for _, l := range lists {
			is, err := l.names(d)
			if err != nil {
				return err
			}
			named = named || is
		}
		if !named {
			if err := t.Delete(ctx, e.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// openLayers brings a set's list of layers into dir, checks it, and goes along it.
func openLayers(ctx context.Context, t Target, m *Manifest, dir string) (*layerCursor, error) {
	list, err := fetchSpool(ctx, t, m, layersFile, dir)
	if err != nil {
		return nil, err
	}
	r, err := list.again()
	if err != nil {
		return nil, errors.Join(err, list.drop())
	}
	l := &layerCursor{done: list.drop}
	l.next, l.stop = iter.Pull2(readLayers(r))
	return l, nil
}

// layerCursor goes along one set's list. nil names none.
type layerCursor struct {
	done func() error
	next func() (layer, error, bool)
	stop func()
	at   digest.Digest
	end  bool
}

// names reports whether the list has d; it must be asked in order.
func (l *layerCursor) names(d digest.Digest) (bool, error) {
	if l == nil {
		return false, nil
	}
	for !l.end && l.at < d {
		line, err, more := l.next()
		if err != nil {
			return false, err
		}
		l.at, l.end = line.Digest, !more
	}
	return !l.end && l.at == d, nil
}

func (l *layerCursor) close() error {
	if l == nil {
		return nil
	}
	l.stop()
	return l.done()
}
