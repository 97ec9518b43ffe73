package hold

import (
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"net/http"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/internal/httpx"
	"github.com/atcr-dev/atcr/repo"
	"github.com/atcr-dev/atcr/repo/xrpc"
)

// repoReads serves the reads of the hold's repository.
func repoReads(k *keeper, subscribe http.Handler, log *slog.Logger) http.Handler {
	return xrpc.NewHandler(ownAccount{k}, &xrpc.Options{
		Log: log, Subscribe: subscribe, Client: func(r *http.Request) string { return httpx.ClientAddr(r).String() },
	})
}

// ownAccount is the hold under every name it has: its DID, under test mode the loopback twin, and its handle.
type ownAccount struct{ *keeper }

func (o ownAccount) account() xrpc.Account {
	return xrpc.Account{
		Repo: o.repo, Handle: o.self().Handle.String(),
		Document: func(context.Context) (json.RawMessage, error) {
			doc, err := identity.Document(o.self().Identity)
			if err != nil {
				return nil, err
			}
			return json.Marshal(doc)
		},
	}
}

// Account finds the hold. Errors: repo.ErrNotFound.
func (o ownAccount) Account(_ context.Context, id string) (xrpc.Account, error) {
	if o.named(id) {
		return o.account(), nil
	}
	return xrpc.Account{}, repo.ErrNotFound
}

// Accounts lists the hold.
func (o ownAccount) Accounts(_ context.Context, after string) iter.Seq2[xrpc.Account, error] {
	return func(yield func(xrpc.Account, error) bool) {
		if o.self().DID.String() > after {
			yield(o.account(), nil)
		}
	}
}
