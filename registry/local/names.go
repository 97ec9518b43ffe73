package local

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/atcr-dev/atcr"
	"github.com/atcr-dev/atcr/repo"
)

// names are the repositories that have had a manifest, sorted: keys of records sort otherwise, because of '~' for '/'.
// Some 60 bytes each.
type names struct {
	mu     sync.RWMutex
	sorted []string
}

func loadNames(ctx context.Context, r *repo.Repo) (*names, error) {
	n := &names{}
	for rec, err := range r.List(ctx, atcr.NSIDRepoPage, "", false) {
		if err != nil {
			return nil, fmt.Errorf("list repositories: %w", err)
		}
		n.sorted = append(n.sorted, atcr.RepoPageRepository(rec.RKey))
	}
	slices.Sort(n.sorted)
	return n, nil
}

func (n *names) has(name string) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	_, ok := slices.BinarySearch(n.sorted, name)
	return ok
}

func (n *names) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i, ok := slices.BinarySearch(n.sorted, name); !ok {
		n.sorted = slices.Insert(n.sorted, i, name)
	}
}

// after returns up to 256 names.
func (n *names) after(name string) []string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	i, ok := slices.BinarySearch(n.sorted, name)
	if ok {
		i++
	}
	return slices.Clone(n.sorted[i:min(i+256, len(n.sorted))])
}

func (n *names) list(after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for {
			page := n.after(after)
			if len(page) == 0 {
				return
			}
			for _, name := range page {
				if !yield(name, nil) {
					return
				}
			}
			after = page[len(page)-1]
		}
	}
}
