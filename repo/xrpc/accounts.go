package xrpc

import (
	"context"
	"encoding/json"
	"iter"
	"strings"

	"github.com/atcr-dev/atcr/repo"
)

// Account is a repository with what describeRepo and listRepos say of it.
type Account struct {
	Repo *repo.Repo
	// Handle of the account; empty when it has none.
	Handle string
	// Document is the account's DID document; nil leaves it out.
	Document func(context.Context) (json.RawMessage, error)
	// Status, when not empty, says why the account is not active: deactivated, takendown, suspended. Its records and blobs
	// are not served then.
	Status string
}

// Accounts finds the repositories that a Handler serves. Safe for concurrent use.
type Accounts interface {
	// Account finds one by DID or, where handles are known, by handle. Errors: [repo.ErrNotFound].
	Account(ctx context.Context, id string) (Account, error)
	// Accounts iterates over all, by DID in byte order, from the first after the given one.
	Accounts(ctx context.Context, after string) iter.Seq2[Account, error]
}

// One serves a single account.
func One(a Account) Accounts { return one{a} }

type one struct{ a Account }

func (o one) Account(_ context.Context, id string) (Account, error) {
	if id == o.a.Repo.DID() || o.a.Handle != "" && strings.EqualFold(id, o.a.Handle) {
		return o.a, nil
	}
	return Account{}, repo.ErrNotFound
}

func (o one) Accounts(_ context.Context, after string) iter.Seq2[Account, error] {
	return func(yield func(Account, error) bool) {
		if o.a.Repo.DID() > after {
			yield(o.a, nil)
		}
	}
}
