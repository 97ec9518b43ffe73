package hold

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/xrpc"
)

// repoReads serves the reads of the hold's repository.
func (s *Server) repoReads() http.Handler {
	return xrpc.NewHandler(ownAccount{s}, &xrpc.Options{Log: s.log, Subscribe: s.firehose})
}

// ownAccount is the hold under every name it has: its DID, under test mode the loopback twin, and its handle.
type ownAccount struct{ s *Server }

func (o ownAccount) account() xrpc.Account {
	return xrpc.Account{
		Repo: o.s.repo, Handle: o.s.self().Handle.String(),
		Document: func(context.Context) (json.RawMessage, error) {
			doc, err := identity.Document(o.s.self().Identity)
			if err != nil {
				return nil, err
			}
			return json.Marshal(doc)
		},
	}
}

// Account finds the hold. Errors: repo.ErrNotFound.
func (o ownAccount) Account(_ context.Context, id string) (xrpc.Account, error) {
	if o.s.isSelf(id) {
		return o.account(), nil
	}
	return xrpc.Account{}, repo.ErrNotFound
}

// Accounts lists the hold.
func (o ownAccount) Accounts(_ context.Context, after string) iter.Seq2[xrpc.Account, error] {
	return func(yield func(xrpc.Account, error) bool) {
		if o.s.DID() > after {
			yield(o.account(), nil)
		}
	}
}
