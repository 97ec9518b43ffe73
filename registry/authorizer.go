package registry

import "net/http"

// Actor is who asks. The handler passes it from the [Authorizer] to the [Backend] and never looks into it.
type Actor struct {
	// ID is the account's stable identifier, for ATCR its DID; empty is anonymous.
	ID string
	// Session finds the credentials by which a backend acts for the actor; empty when there are none.
	Session string
	// Name is the repository's first part as an identity, when the authorizer resolved it already; may be empty.
	Name string
	// Challenge is sent as WWW-Authenticate when the backend returns ErrUnauthorized: what is asked for is private, which
	// only the backend can know.
	Challenge string
	// NoToken says that the request carried no credentials at all: what the backend doesn't find is then challenged, too (401 in
	// place of 404), since somebody who signs in may see it.
	NoToken bool
}

// Action is what an access would do.
type Action string

// Actions, as in the docker token specification's scopes.
const (
	Pull   Action = "pull"
	Push   Action = "push"
	Delete Action = "delete"
)

// Access is one wanted access.
type Access struct {
	Repository string   // after Options.Name; empty for /v2/ (no Actions) and for the catalog (Pull)
	Actions    []Action // all of them are needed
	// Upload is the id of the upload that the request continues, else empty: an authorizer may then accept
	// a token that has expired meanwhile.
	Upload string
}

// Authorizer decides who may do what. It is safe for concurrent use.
type Authorizer interface {
	// Authorize returns who asks, or an error; an [*Error] (ErrUnauthorized with its Challenge, ErrDenied,
	// ErrTooManyRequests) is sent as it is. An anonymous actor should carry a Challenge: see [Actor].
	Authorize(r *http.Request, wanted []Access) (Actor, error)
}
