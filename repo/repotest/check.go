package repotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"testing"

	indigo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/ipfs/go-cid"

	"github.com/atcr-dev/atcr/repo"
)

// Check makes sure, without asking our own tree, that a repository is whole: the commit's signature, the tree rebuilt
// by indigo from the records, exactly the tree's nodes in the store, and the export read by indigo.
func Check(t testing.TB, r *repo.Repo, s repo.Store) {
	t.Helper()
	if err := check(t.Context(), r, s); err != nil {
		t.Fatal(err)
	}
}

func check(ctx context.Context, r *repo.Repo, s repo.Store) error {
	tree := mst.NewEmptyTree()
	var head repo.Head
	nodes, records := map[repo.CID]bool{}, int64(0)
	err := s.View(ctx, func(v repo.Reader) (err error) {
		if head, err = v.Head(); err != nil {
			return err
		}
		for rec, err := range v.Records("", "", false, 0) {
			if err != nil {
				return err
			}
			if repo.RecordCID(rec.Value) != rec.CID {
				return fmt.Errorf("record %s does not match its CID", rec.Path)
			}
			c, err := cid.Cast(rec.CID.Bytes())
			if err != nil {
				return err
			}
			if _, err := tree.Insert([]byte(rec.Path), c); err != nil {
				return err
			}
			records++
		}
		for n, err := range v.Nodes() {
			if err != nil {
				return err
			}
			if repo.RecordCID(n.Data) != n.CID || nodes[n.CID] {
				return fmt.Errorf("node at %v is damaged or there twice", n.Place)
			}
			nodes[n.CID] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	root, err := tree.RootCID()
	if err != nil {
		return err
	}
	if head.Records != records {
		return fmt.Errorf("the head counts %d records, there are %d", head.Records, records)
	}
	if root.String() != head.Root.String() {
		return fmt.Errorf("the head's root is %s, indigo makes %s of the records", head.Root, root)
	}
	return checkExport(ctx, r, nodes)
}

func checkExport(ctx context.Context, r *repo.Repo, nodes map[repo.CID]bool) error {
	var car bytes.Buffer
	if err := repo.ExportCAR(ctx, r, &car, nil); err != nil {
		return err
	}
	commit, theirs, err := indigo.LoadRepoFromCAR(ctx, &car)
	if err != nil {
		return fmt.Errorf("indigo reads the export: %w", err)
	}
	if err := commit.VerifyStructure(); err != nil {
		return err
	}
	if err := commit.VerifySignature(r.PublicKey()); err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	if err := theirs.MST.Verify(); err != nil {
		return fmt.Errorf("indigo checks the exported tree: %w", err)
	}
	stored := 0
	err = walkNodes(theirs.MST.Root, func(n *mst.Node) error {
		if n.CID == nil {
			return errors.New("a node without CID")
		}
		id, err := repo.ParseCID(n.CID.String())
		if err != nil || !nodes[id] {
			return fmt.Errorf("node %s of the tree is not stored: %v", n.CID, err)
		}
		stored++
		return nil
	})
	if err == nil && stored != len(nodes) {
		err = fmt.Errorf("%d nodes stored, the tree has %d", len(nodes), stored)
	}
	return err
}

func walkNodes(n *mst.Node, f func(*mst.Node) error) error {
	if n == nil {
		return nil
	}
	if err := f(n); err != nil {
		return err
	}
	for _, e := range n.Entries {
		if e.Child != nil {
			if err := walkNodes(e.Child, f); err != nil {
				return err
			}
		}
	}
	return nil
}
