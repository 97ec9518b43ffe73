package blobhttp

import (
	"net/http"
	"strings"
)

// ETag is the entity tag of what has this digest.
func ETag(digest string) string { return `"` + digest + `"` }

// NotModified reports whether If-None-Match names the tag: the answer is 304 then (RFC 9110 §13.1.2).
func NotModified(r *http.Request, etag string) bool {
	list := r.Header["If-None-Match"]
	return len(list) > 0 && matches(list, etag, true)
}

// CheckIfMatch returns ErrPrecondition when there is an If-Match that does not name the tag (RFC 9110 §13.1.1). An empty
// tag stands for what does not exist, which no If-Match names.
func CheckIfMatch(r *http.Request, etag string) error {
	list := r.Header["If-Match"]
	if len(list) == 0 || etag != "" && matches(list, etag, false) {
		return nil
	}
	return ErrPrecondition
}

// matches looks for a tag in the lines of a list. Digests have no comma, so that splitting at commas is enough.
func matches(lines []string, etag string, weak bool) bool {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			item = strings.TrimSpace(item)
			if weak {
				item = strings.TrimPrefix(item, "W/")
			}
			if item == "*" || item == etag {
				return true
			}
		}
	}
	return false
}
