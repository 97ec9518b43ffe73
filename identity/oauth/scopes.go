package oauth

import (
	"net/url"
	"slices"
	"strings"
)

// Scopes that have a meaning for every AT Protocol server.
const (
	scopeBase       = "atproto"
	scopeTransition = "transition:generic"
)

var repoActions = []string{"create", "update", "delete"}

// askedScopes is a list of scopes without empty and repeated ones, "atproto" first.
func askedScopes(scopes []string) []string {
	out := []string{scopeBase}
	for _, s := range scopes {
		if s = strings.TrimSpace(s); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// missingScopes returns what was asked and not granted, in the words of asked. Servers write scopes in another form than they were asked
// in (sorted, joined, encoded otherwise), so permissions are compared and not texts. A permission set ("include:") is never missing: a
// server answers with the scopes in it, and what is needed of them is asked beside it.
func missingScopes(asked, granted []string) []string {
	var have []permission
	for _, s := range granted {
		have = append(have, parseScope(s))
	}
	var out []string
	for _, s := range asked {
		if want := parseScope(s); want.resource != "include" && !want.within(have) {
			out = append(out, s)
		}
	}
	return out
}

// permission is a scope taken apart: what it is for (repo, rpc, blob, or another resource), values of the one parameter that may stand
// before the question mark, and values of the other.
type permission struct {
	resource string
	names    []string // of repo: collections; rpc: methods; blob: media types
	more     []string // of repo: actions; rpc: the audience
	text     string   // the whole scope when it is none of these
}

// parseScope reads one scope: resource[:positional][?name=value&…].
func parseScope(s string) permission {
	resource, rest, query := s, "", ""
	if i := strings.IndexAny(s, ":?"); i >= 0 {
		resource, rest = s[:i], s[i:]
	}
	rest, query, _ = strings.Cut(rest, "?")
	params, err := url.ParseQuery(query)
	p := permission{resource: resource, text: s}
	if err != nil {
		return permission{text: s}
	}
	named, other := "", ""
	switch resource {
	case "repo":
		named, other = "collection", "action"
	case "rpc":
		named, other = "lxm", "aud"
	case "blob":
		named = "accept"
	default:
		return p
	}
	p.names = params[named]
	if positional, ok := strings.CutPrefix(rest, ":"); ok {
		if positional, err = url.PathUnescape(positional); err != nil || len(p.names) > 0 {
			return permission{text: s}
		}
		p.names = []string{positional}
	}
	p.more = params[other]
	if resource == "repo" && len(p.more) == 0 {
		p.more = repoActions
	}
	if len(p.names) == 0 || resource == "rpc" && len(p.more) != 1 {
		return permission{text: s}
	}
	p.text = ""
	return p
}

// within reports whether everything that the permission allows is allowed by others together.
func (p permission) within(have []permission) bool {
	if p.text != "" {
		return slices.ContainsFunc(have, func(h permission) bool { return h.text == p.text })
	}
	for _, name := range p.names {
		for _, more := range p.each() {
			if !slices.ContainsFunc(have, func(h permission) bool { return h.allows(p.resource, name, more) }) {
				return false
			}
		}
	}
	return true
}

func (p permission) each() []string {
	if p.resource == "blob" {
		return []string{""}
	}
	return p.more
}

// allows reports whether the permission alone allows one thing.
func (p permission) allows(resource, name, more string) bool {
	if p.text == scopeTransition { // everything that an app password may do, but chats
		return resource != "rpc" || !strings.HasPrefix(name, "chat.bsky.")
	}
	if p.text != "" || p.resource != resource {
		return false
	}
	switch resource {
	case "repo":
		return hasAny(p.names, name) && slices.Contains(p.more, more)
	case "rpc":
		return hasAny(p.names, name) && hasAny(p.more, more)
	}
	return slices.ContainsFunc(p.names, func(pattern string) bool { return accepts(pattern, name) })
}

func hasAny(list []string, one string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, one)
}

// accepts reports whether a pattern of media types covers a type or another pattern.
func accepts(pattern, mediaType string) bool {
	pattern, mediaType = strings.ToLower(pattern), strings.ToLower(mediaType)
	if family, ok := strings.CutSuffix(pattern, "/*"); ok && family != "*" {
		return strings.HasPrefix(mediaType, family+"/")
	}
	return pattern == "*/*" || pattern == mediaType
}
