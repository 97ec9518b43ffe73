package auth

import (
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"github.com/atcr-dev/atcr/identity"
	"github.com/atcr-dev/atcr/registry"
)

const (
	maxScopes = 64
	maxName   = 255 + len("did:web:") // an OCI name, its first part perhaps spelt as a DID
)

// access is one entry of a token's access claim (CNCF distribution, "Token Authentication Implementation").
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// parseScopes reads scope parameters, each of which may hold several with spaces between: TYPE:NAME:ACTION,ACTION, where the
// name may contain colons. What can't be read is left out; one name's actions are joined. ok is false when there are too many.
func parseScopes(params []string) (wanted []access, ok bool) {
	for _, p := range params {
		for s := range strings.FieldsSeq(p) {
			a, ok := parseScope(s)
			if !ok {
				continue
			}
			i := slices.IndexFunc(wanted, func(b access) bool { return b.Type == a.Type && b.Name == a.Name })
			if i < 0 {
				if len(wanted) == maxScopes {
					return nil, false
				}
				wanted = append(wanted, a)
				continue
			}
			for _, action := range a.Actions {
				if !slices.Contains(wanted[i].Actions, action) {
					wanted[i].Actions = append(wanted[i].Actions, action)
				}
			}
		}
	}
	return wanted, true
}

func parseScope(s string) (access, bool) {
	first, last := strings.IndexByte(s, ':'), strings.LastIndexByte(s, ':')
	if first < 0 || first == last || last-first-1 > maxName {
		return access{}, false
	}
	a := access{Type: s[:first], Name: s[first+1 : last]}
	a.Type, _, _ = strings.Cut(a.Type, "(") // repository(plugin)
	if a.Type != "repository" || a.Name == "" || strings.ContainsAny(a.Name, "\"\\ \t") {
		return access{}, false
	}
	for action := range strings.SplitSeq(s[last+1:], ",") {
		all := []string{action}
		if action == "*" {
			all = []string{string(registry.Pull), string(registry.Push), string(registry.Delete)}
		}
		for _, action := range all {
			switch registry.Action(action) {
			case registry.Pull, registry.Push, registry.Delete:
				if !slices.Contains(a.Actions, action) {
					a.Actions = append(a.Actions, action)
				}
			}
		}
	}
	return a, len(a.Actions) > 0
}

// scopeOf writes accesses as a scope parameter.
func scopeOf(all []access) string {
	scopes := make([]string, len(all))
	for i, a := range all {
		scopes[i] = a.Type + ":" + a.Name + ":" + strings.Join(a.Actions, ",")
	}
	return strings.Join(scopes, " ")
}

// covers reports whether a token's accesses allow all the actions on a repository.
func covers(granted []access, name string, actions []registry.Action) bool {
	name = oneSpelling(name)
	for _, action := range actions {
		if !slices.ContainsFunc(granted, func(g access) bool {
			return g.Type == "repository" && oneSpelling(g.Name) == name && slices.Contains(g.Actions, string(action))
		}) {
			return false
		}
	}
	return true
}

// oneSpelling writes did:plc:x/app and did-plc-x/app alike: a client asks for a token by the name it was given, and the handler
// may have rewritten it for the OCI grammar. Handles compare without case.
func oneSpelling(name string) string {
	owner, rest, _ := strings.Cut(name, "/")
	if id, err := identity.ParseOwner(owner); err == nil {
		owner = id.String()
	}
	return owner + "/" + rest
}

// parseUser reads an account's name: a handle, a DID or did-plc-….
func parseUser(s string) (syntax.AtIdentifier, bool) {
	id, err := identity.ParseOwner(strings.TrimPrefix(strings.TrimSpace(s), "@"))
	return id, err == nil
}
